// linear_io: what every linear kernel binds, and its epilogues (bias, swiglu).
// A part is a range of the layer's rows that fits one binding.
// Needs     lib/live.wgsl, lib/silu.wgsl

struct Params {
  num_outputs: u32,      // outputs of this part
  num_chunks: u32,       // in / 8
  out_stride: u32,       // elements from a token of y to the next
  out_offset: u32,       // this part's first column of y
  up_offset: u32,        // with swiglu: from a gate bias to its up bias
  has_bias: u32,         // else b is any other tensor
  is_swiglu: u32,        // w holds num_outputs gate rows, then as many up rows
  rows_are_samples: u32, // x holds live.num_samples rows, else live.num_tokens
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read> w: array<vec4u>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

fn live_rows() -> u32 {
  return select(live.num_tokens, live.num_samples, params.rows_are_samples != 0u);
}

fn bias(column: u32) -> f32 {
  if (params.has_bias == 0u) { return 0.0; }
  return b[column];
}

// `up` counts with swiglu only.
fn store(token: u32, n: u32, sum: f32, up: f32) {
  if (n >= params.num_outputs) { return; }
  let column = params.out_offset + n;
  var value = sum + bias(column);
  if (params.is_swiglu != 0u) { value = silu(value) * (up + bias(column + params.up_offset)); }
  y[token * params.out_stride + column] = value;
}
