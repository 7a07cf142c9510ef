// rms_norm: y[t, i] = w[i] * x[t, i] / sqrt(mean_j(x[t, j]^2) + eps)
//
// Shapes    x, y: [num_tokens, hidden] f32    w: [hidden] f32
// Dispatch  (num_tokens, 1, 1): one workgroup a token, its lanes stride over hidden
// Accuracy  f32 sums; rtol 1e-5 against test/oracles/rmsNorm.ts
// Source    Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4
// Includes  lib/block_sum.wgsl
override WG_SIZE: u32 = 256; // lanes a workgroup; power of two

struct Params { hidden: u32, eps: f32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> x: array<f32>;
@group(1) @binding(2) var<storage, read> w: array<f32>;
@group(1) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x * params.hidden;
  var sum_sq = 0.0;
  for (var i = lane; i < params.hidden; i += WG_SIZE) { sum_sq += x[row + i] * x[row + i]; }
  let scale = inverseSqrt(block_sum(sum_sq, lane) / f32(params.hidden) + params.eps);
  for (var i = lane; i < params.hidden; i += WG_SIZE) { y[row + i] = w[i] * x[row + i] * scale; }
}
