// quad_f16: four neighbouring activations as they are written, f16 clamped to the finite ones, in tiles.
// Needs     lib/tiles.wgsl
alias Quad = vec2u;

fn quad_of(values: vec4f) -> Quad { return finite_halves(values); }

// Where quad i of a token is.
fn quad_at(token: u32, i: u32, num_quads: u32) -> u32 {
  return 2u * tiled_chunk(token, i / 2u, num_quads / 2u) + i % 2u;
}
