// linear_io: what a linear layer by itself binds.
// A part is a range of the layer's rows that fits one binding.

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
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> x: array<vec4f>;
@group(1) @binding(2) var<storage, read> w: array<vec4u>;
@group(1) @binding(3) var<storage, read> b: array<f32>;
@group(1) @binding(4) var<storage, read_write> y: array<f32>;

fn put(at: u32, value: f32) { y[at] = value; }
