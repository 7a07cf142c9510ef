// quad_f16: four neighbouring activations as they are written, f16 clamped to the finite ones, in tiles.
// Needs     lib/tiles.wgsl
alias Quad = vec2u;

fn quad_of(values: vec4f) -> Quad {
  let most = vec4f(65504.0);
  let finite = clamp(values, -most, most);
  return vec2u(pack2x16float(finite.xy), pack2x16float(finite.zw));
}

// Where quad i of a token is.
fn quad_at(token: u32, i: u32, num_quads: u32) -> u32 {
  return 2u * tiled_chunk(token, i / 2u, num_quads / 2u) + i % 2u;
}
