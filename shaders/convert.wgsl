// convert: the elements of one tensor in another dtype, rounded to nearest, ties to even.
//
// Shapes    src, dst: [2 * num_pairs], FROM and TO: f32, or f16 or bf16 two to a u32
// Dispatch  (x + y * num_groups.x: workgroups of WG_SIZE pairs)
// Accuracy  exact, or correctly rounded; subnormals and infinities kept, NaN stays NaN
// Includes  lib/float_bits.wgsl, lib/narrow_to.wgsl
override WG_SIZE: u32 = 64;
override FROM: u32; // F32, F16 or BF16, as TO

struct Params { num_pairs: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<u32>;
@group(0) @binding(2) var<storage, read_write> dst: array<u32>;

fn widen(half: u32) -> u32 {
  if (FROM == BF16) { return half << 16u; }
  return f16_to_f32(half);
}

// The f32 bits of a pair of elements.
fn load_pair(pair: u32) -> vec2u {
  if (FROM == F32) { return vec2u(src[2u * pair], src[2u * pair + 1u]); }
  let halves = src[pair];
  return vec2u(widen(halves & 0xffffu), widen(halves >> 16u));
}

@compute @workgroup_size(WG_SIZE)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) num_groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let pair = (group.x + group.y * num_groups.x) * WG_SIZE + lane;
  if (pair >= params.num_pairs) { return; }
  let bits = load_pair(pair);
  if (TO == F32) {
    dst[2u * pair] = bits.x;
    dst[2u * pair + 1u] = bits.y;
  } else {
    dst[pair] = narrow(bits.x) | (narrow(bits.y) << 16u);
  }
}
