// convert: the elements of one tensor in another dtype, rounded to nearest, ties to even.
//
// Shapes    src, dst: [2 * num_pairs], FROM and TO: f32, or f16 or bf16 two to a u32
// Dispatch  (x + y * num_groups.x: workgroups of WG_SIZE pairs)
// Accuracy  exact, or correctly rounded; subnormals and infinities kept, NaN stays NaN
// Includes  lib/float_bits.wgsl, lib/narrow_to.wgsl, lib/convert_pair.wgsl
override WG_SIZE: u32 = 64;

struct Params { num_pairs: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> src: array<u32>;
@group(1) @binding(2) var<storage, read_write> dst: array<u32>;

@compute @workgroup_size(WG_SIZE)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) num_groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let pair = (group.x + group.y * num_groups.x) * WG_SIZE + lane;
  if (pair >= params.num_pairs) { return; }
  store_pair(pair, load_pair(pair));
}
