// tokens_4: eight activations of four tokens, and their products with eight weights. Tokens past
// the last repeat it, and their sums are not stored.
// Needs     lib/linear_io.wgsl, lib/weights_*.wgsl, lib/x_*.wgsl
const TOKENS = 4u;
alias Acc = vec4f; // one sum a token
struct Activations { lo: mat4x4f, hi: mat4x4f } // a column a token

fn load_columns(at: vec4u, factor: Factor, place: Place) -> mat4x4f {
  return mat4x4f(
    load_x(at.x, 0u, factor, place),
    load_x(at.y, 1u, factor, place),
    load_x(at.z, 2u, factor, place),
    load_x(at.w, 3u, factor, place),
  );
}

fn load_activations(chunk: u32, first_token: u32, last_token: u32, place: Place) -> Activations {
  let tokens = min(vec4u(first_token) + vec4u(0, 1, 2, 3), vec4u(last_token));
  let at = 2u * (tokens * params.num_chunks + chunk);
  return Activations(
    load_columns(at, load_factor(2u * chunk, place), place),
    load_columns(at + 1u, load_factor(2u * chunk + 1u, place), place),
  );
}

fn multiply(weights: Weights8, xs: Activations) -> Acc {
  return weights.lo * xs.lo + weights.hi * xs.hi;
}

fn token_of(acc: Acc, token: u32) -> f32 { return acc[token]; }
