// quad_f16: four neighbouring activations as they are written, f16 clamped to the finite ones.
alias Quad = vec2u;

fn quad_of(values: vec4f) -> Quad {
  let most = vec4f(65504.0);
  let finite = clamp(values, -most, most);
  return vec2u(pack2x16float(finite.xy), pack2x16float(finite.zw));
}
