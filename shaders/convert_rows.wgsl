// convert_rows: the first rows of several parts in another dtype, rounded to nearest, ties to even:
// dst[p, t, i] = src[p, t, i] for the live rows t of each part p
//
// Shapes    src, dst: parts of [rows, 2 * row_pairs], src_stride and dst_stride pairs apart; FROM and TO as in convert.wgsl
// Dispatch  (row_pairs / WG_SIZE rounded up, live rows, parts): a lane a pair
// Accuracy  exact, or correctly rounded, as convert.wgsl
// Includes  lib/float_bits.wgsl, lib/narrow_to.wgsl, lib/convert_pair.wgsl
override WG_SIZE: u32 = 64;

struct Params { row_pairs: u32, src_stride: u32, dst_stride: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> src: array<u32>;
@group(1) @binding(2) var<storage, read_write> dst: array<u32>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= params.row_pairs) { return; }
  let at = id.y * params.row_pairs + id.x;
  store_pair(id.z * params.dst_stride + at, load_pair(id.z * params.src_stride + at));
}
