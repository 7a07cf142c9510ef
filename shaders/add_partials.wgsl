// add_partials: r[t, i] += sum_k p[k * stride + t * hidden + i], k in rank order
//
// Shapes    p: num_partials x [num_tokens, hidden] f32, stride elements apart
//           r (in and out): [num_tokens, hidden] f32
// Dispatch  (num_tokens, 1, 1): one workgroup a token, its lanes stride over hidden
// Accuracy  the additions of sum_residual_norm, in the same order: bit-equal residuals
override WG_SIZE: u32 = 256; // lanes a workgroup

struct Params { hidden: u32, num_partials: u32, stride: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> p: array<f32>;
@group(0) @binding(2) var<storage, read_write> r: array<f32>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x * params.hidden;
  for (var i = lane; i < params.hidden; i += WG_SIZE) {
    var sum = p[row + i];
    for (var k = 1u; k < params.num_partials; k++) { sum += p[k * params.stride + row + i]; }
    r[row + i] += sum;
  }
}
