// linear_gemv: y[t, n] = sum_k x[t, k] * w[n, k] + b[n] for a few tokens; with SWIGLU
// y[t, n] = silu(g) * u, g and u being the sums of rows n and num_outputs + n.
//
// Shapes    x: [tokens, in] f32   w: [rows, in] f32|f16|bf16   y: [tokens, out_stride] f32
// Dispatch  (x + y * num_groups.x: WG_SIZE / LANES_PER_ROW * ROWS outputs, z: TOKENS tokens)
// Accuracy  f32 sums; see test/oracles/linear.ts
// Includes  lib/live.wgsl, lib/weights_*.wgsl, lib/tokens_*.wgsl, lib/row_sum_*.wgsl, lib/silu.wgsl
// Prelude   const ROWS: u32, outputs that a lane sums at the same time: loads in flight
override WG_SIZE: u32 = 64;
override LANES_PER_ROW: u32 = 64; // lanes that share a row; divides WG_SIZE
override SWIGLU: bool = false;

struct Params {
  num_outputs: u32,
  num_chunks: u32,     // in / 8
  out_stride: u32,     // elements from a token of y to the next
  out_offset: u32,     // this part's first column of y
  up_offset: u32,      // where b holds the biases of the up rows
  has_bias: u32,       // else b is any other tensor
  rows_are_samples: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read> w: array<vec4u>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

fn store(token: u32, n: u32, acc: f32, acc_up: f32) {
  let column = params.out_offset + n;
  var value = acc;
  var up = acc_up;
  if (params.has_bias != 0u) {
    value += b[column];
    if (SWIGLU) { up += b[params.up_offset + column]; }
  }
  if (SWIGLU) { value = silu(value) * up; }
  y[token * params.out_stride + column] = value;
}

@compute @workgroup_size(WG_SIZE)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) num_groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let num_tokens = select(live.num_tokens, live.num_samples, params.rows_are_samples != 0u);
  let first_token = group.z * TOKENS;
  let last_token = max(num_tokens, 1u) - 1u;
  let lanes_group = (group.x + group.y * num_groups.x) * (WG_SIZE / LANES_PER_ROW) + lane / LANES_PER_ROW;
  let first = lanes_group * ROWS;
  let lane_of_row = lane % LANES_PER_ROW;

  // rows past the last repeat it, so that every lane reaches the barriers of row_sum
  var start: array<u32, ROWS>; // the row's first chunk
  var sums: array<Acc, ROWS>;
  var up_sums: array<Acc, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    start[r] = min(first + r, params.num_outputs - 1u) * params.num_chunks;
  }
  let up_start = params.num_outputs * params.num_chunks;
  for (var chunk = lane_of_row; chunk < params.num_chunks; chunk += LANES_PER_ROW) {
    let xs = load_activations(chunk, first_token, last_token);
    for (var r = 0u; r < ROWS; r++) {
      sums[r] += multiply(load_weights(start[r] + chunk), xs);
      if (SWIGLU) { up_sums[r] += multiply(load_weights(up_start + start[r] + chunk), xs); }
    }
  }
  for (var r = 0u; r < ROWS; r++) {
    sums[r] = row_sum(sums[r], lane);
    if (SWIGLU) { up_sums[r] = row_sum(up_sums[r], lane); }
  }
  for (var i = lane_of_row; i < ROWS * TOKENS; i += LANES_PER_ROW) {
    let r = i % ROWS;
    let token = first_token + i / ROWS;
    if (first + r < params.num_outputs && token < num_tokens) {
      store(token, first + r, token_of(sums[r], i / ROWS), token_of(up_sums[r], i / ROWS));
    }
  }
}
