// store8_f32: writes eight f32.
// Needs     var y: array<vec4u>, struct Weights8 of lib/weights_*.wgsl
fn store_weights(chunk: u32, eight: Weights8) {
  y[2u * chunk] = bitcast<vec4u>(eight.lo);
  y[2u * chunk + 1u] = bitcast<vec4u>(eight.hi);
}
