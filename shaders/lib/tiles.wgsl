// tiles: f16 activations in tiles of 16 tokens x 16 features, a token's features side by side and a row of
// tiles along the features, so that a tile goes from device memory straight into a matrix.

// Where eight features of a token begin, in eights of halves. num_chunks: eights of a token
fn tiled_chunk(token: u32, chunk: u32, num_chunks: u32) -> u32 {
  return (token / 16u * (num_chunks / 2u) + chunk / 2u) * 32u + token % 16u * 2u + chunk % 2u;
}

// Four activations as f16, clamped to the finite ones, two to a word.
fn finite_halves(values: vec4f) -> vec2u {
  let most = vec4f(65504.0);
  let finite = clamp(values, -most, most);
  return vec2u(pack2x16float(finite.xy), pack2x16float(finite.zw));
}
