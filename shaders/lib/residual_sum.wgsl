// residual_sum: partials are still to be added to the residual. Every workgroup adds them for itself;
// the first ones write the sum for the layers that follow, with the same bits on all ranks.
// Needs     x, updated; WG_SIZE, TOKENS; lib/partial_sum.wgsl
fn residual_quad(index: u32) -> vec4f { return x[index] + partial_sum(index); }

fn residual_element(index: u32, component: u32) -> f32 {
  var sum = 0.0;
  for (var p = 0u; p < params.num_partials; p++) {
    sum += partials[p * params.partial_stride + index][component];
  }
  return x[index][component] + sum;
}

// updated = x + partials for the workgroup's tokens.
fn write_residual(first_token: u32, num_tokens: u32, place: Place) {
  if (params.writes_residual == 0u) { return; }
  let quads = 2u * params.num_chunks; // of a token
  let end = min(first_token + TOKENS, num_tokens) * quads;
  for (var i = first_token * quads + place.lane; i < end; i += WG_SIZE) {
    updated[i] = residual_quad(i);
  }
}
