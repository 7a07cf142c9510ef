// fused_params: params of a GEMV that is fused with its neighbours; those of lib/linear_io.wgsl first.
struct Params {
  num_outputs: u32,
  num_chunks: u32,
  out_stride: u32,
  out_offset: u32,
  up_offset: u32,
  has_bias: u32,
  is_swiglu: u32,
  rows_are_samples: u32,
  eps: f32,             // of the norm before
  num_partials: u32,    // still to be added to the residual
  partial_stride: u32,  // in quads
  writes_residual: u32, // 0 for all parts of the weight but the first
  num_heads: u32,       // with RoPE
  num_kv_heads: u32,
}
@group(1) @binding(0) var<uniform> params: Params;
