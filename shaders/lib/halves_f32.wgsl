// halves_f32: eight consecutive weights as f16, two to a u32, from rows of f32.
// Needs     var w: array<vec4u>; chunk counts eights of weights
fn load_halves(chunk: u32) -> vec4u {
  let lo = bitcast<vec4f>(w[2u * chunk]);
  let hi = bitcast<vec4f>(w[2u * chunk + 1u]);
  return vec4u(
    pack2x16float(lo.xy),
    pack2x16float(lo.zw),
    pack2x16float(hi.xy),
    pack2x16float(hi.zw),
  );
}
