// sum_residual_norm: r[t, i] += sum_k p[k * stride + t * hidden + i], k in rank order;
//                    y[t, i] = w[i] * r[t, i] / sqrt(mean_j(r[t, j]^2) + eps)
//
// Shapes    p: num_partials x [num_tokens, hidden] f32, stride elements apart
//           r (in and out), y: [num_tokens, hidden] f32    w: [hidden] f32
// Dispatch  (num_tokens, 1, 1): one workgroup a token, its lanes stride over hidden
// Accuracy  f32 sums; rtol 1e-5 against test/oracles/rmsNorm.ts
// Source    Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4
// Includes  lib/block_sum.wgsl
override WG_SIZE: u32 = 256; // lanes a workgroup; power of two

struct Params { hidden: u32, eps: f32, num_partials: u32, stride: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> p: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> r: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x * params.hidden;
  var sum_sq = 0.0;
  for (var i = lane; i < params.hidden; i += WG_SIZE) {
    var value = r[row + i];
    if (params.num_partials > 0u) {
      var sum = p[row + i];
      for (var k = 1u; k < params.num_partials; k++) { sum += p[k * params.stride + row + i]; }
      value += sum;
      r[row + i] = value;
    }
    sum_sq += value * value;
  }
  let scale = inverseSqrt(block_sum(sum_sq, lane) / f32(params.hidden) + params.eps);
  // each lane reads back only what it wrote itself
  for (var i = lane; i < params.hidden; i += WG_SIZE) { y[row + i] = w[i] * r[row + i] * scale; }
}
