// store8_f16: writes eight f16, two to a u32.
// Needs     var y: array<vec4u>, struct Weights8 of lib/weights_*.wgsl
fn store_weights(chunk: u32, eight: Weights8) {
  y[chunk] = vec4u(
    pack2x16float(eight.lo.xy),
    pack2x16float(eight.lo.zw),
    pack2x16float(eight.hi.xy),
    pack2x16float(eight.hi.zw),
  );
}
