// silu: x * sigmoid(x), by exp(-|x|) so that nothing overflows: WGSL promises nothing of infinities.
fn silu(value: f32) -> f32 {
  let e = exp(-abs(value));
  return value * select(e, 1.0, value >= 0.0) / (1.0 + e);
}
