// sum_residual_norm: r[t, i] += sum_p partials[p, t, i], then
// y[t, i] = w[i] * r[t, i] / sqrt(mean_j(r[t, j]^2) + eps)
//
// Shapes    partials: num_partials x [num_tokens, hidden], partial_stride apart   w: [hidden]
//           r, y: [num_tokens, hidden]   all f32, or y f16 in tiles; num_partials may be 0
// Dispatch  (num_tokens, 1, 1): one workgroup a token, its lanes stride over quads of hidden
// Accuracy  f32 sums, partials in rank order, so that every rank gets the same bits; rtol 1e-5
//           against test/oracles/sumResidualNorm.ts
// Source    RMSNorm: Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4
// Includes  lib/block_sum.wgsl, lib/partial_sum.wgsl, lib/quad_f32.wgsl or lib/tiles.wgsl and
//           lib/quad_f16.wgsl
override WG_SIZE: u32 = 256; // lanes a workgroup; power of two

struct Params { num_quads: u32, num_partials: u32, partial_stride: u32, eps: f32 }
@group(1) @binding(0) var<uniform> params: Params; // num_quads = hidden / 4; the stride in quads too
@group(1) @binding(1) var<storage, read> partials: array<vec4f>;
@group(1) @binding(2) var<storage, read> w: array<vec4f>;
@group(1) @binding(3) var<storage, read_write> r: array<vec4f>;
@group(1) @binding(4) var<storage, read_write> y: array<Quad>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x * params.num_quads;
  let first_weight = w[min(lane, params.num_quads - 1u)]; // on its way during the sum
  var first = vec4f();
  var sum_sq = 0.0;
  for (var i = lane; i < params.num_quads; i += WG_SIZE) {
    let value = r[row + i] + partial_sum(row + i);
    r[row + i] = value;
    if (i == lane) { first = value; }
    sum_sq += dot(value, value);
  }
  let mean = block_sum(sum_sq, lane) / f32(4u * params.num_quads);
  let scale = inverseSqrt(mean + params.eps);
  if (lane < params.num_quads) {
    y[quad_at(group.x, lane, params.num_quads)] = quad_of(first_weight * first * scale);
  }
  for (var i = lane + WG_SIZE; i < params.num_quads; i += WG_SIZE) { // each lane reads what it wrote
    y[quad_at(group.x, i, params.num_quads)] = quad_of(w[i] * r[row + i] * scale);
  }
}
