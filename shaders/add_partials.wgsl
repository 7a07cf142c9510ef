// add_partials: r[t, i] += sum_p partials[p, t, i], or = where ONTO is false
//
// Shapes    partials: num_partials x [num_tokens, hidden], partial_stride apart
//           r: [num_tokens, hidden]   all f32
// Dispatch  (hidden / 4 / WG_SIZE rounded up, num_tokens, 1): a lane a quad
// Accuracy  f32 sums in rank order: the same bits as sum_residual_norm
// Includes  lib/partial_sum.wgsl
override WG_SIZE: u32 = 64;
override ONTO: bool = true;

struct Params { num_quads: u32, num_partials: u32, partial_stride: u32 }
@group(1) @binding(0) var<uniform> params: Params; // num_quads = hidden / 4; the stride in quads too
@group(1) @binding(1) var<storage, read> partials: array<vec4f>;
@group(1) @binding(2) var<storage, read_write> r: array<vec4f>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= params.num_quads) { return; }
  let index = id.y * params.num_quads + id.x;
  let sum = partial_sum(index);
  r[index] = select(sum, r[index] + sum, ONTO);
}
