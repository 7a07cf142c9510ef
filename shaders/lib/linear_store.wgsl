// linear_store: what becomes of a row's sum: bias, swiglu.
// Needs     lib/silu.wgsl, lib/linear_common.wgsl; put: lib/linear_io.wgsl or lib/fused_*.wgsl

// `up` counts with swiglu only.
fn finished(n: u32, sum: f32, up: f32) -> f32 {
  let column = params.out_offset + n;
  let value = sum + bias(column);
  if (params.is_swiglu == 0u) { return value; }
  return silu(value) * (up + bias(column + params.up_offset));
}

fn store(token: u32, n: u32, sum: f32, up: f32) {
  if (n >= params.num_outputs) { return; }
  put(token * params.out_stride + params.out_offset + n, finished(n, sum, up));
}
