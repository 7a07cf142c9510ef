// tokens_8: eight activations of eight tokens, and their products with eight weights. Tokens past
// the last repeat it, and their sums are not stored.
// Needs     lib/linear_io.wgsl, lib/weights_*.wgsl, lib/x_*.wgsl
const TOKENS = 8u;
alias Acc = mat2x4f; // one sum a token
struct Activations { lo0: mat4x4f, hi0: mat4x4f, lo1: mat4x4f, hi1: mat4x4f } // a column a token

// `first` is the workgroup's token in the first column: 0 or 4.
fn load_columns(at: vec4u, first: u32, factor: Factor, place: Place) -> mat4x4f {
  return mat4x4f(
    load_x(at.x, first, factor, place),
    load_x(at.y, first + 1u, factor, place),
    load_x(at.z, first + 2u, factor, place),
    load_x(at.w, first + 3u, factor, place),
  );
}

fn load_activations(chunk: u32, first_token: u32, last_token: u32, place: Place) -> Activations {
  let tokens0 = min(vec4u(first_token) + vec4u(0, 1, 2, 3), vec4u(last_token));
  let tokens1 = min(vec4u(first_token) + vec4u(4, 5, 6, 7), vec4u(last_token));
  let at0 = 2u * (tokens0 * params.num_chunks + chunk);
  let at1 = 2u * (tokens1 * params.num_chunks + chunk);
  let lo = load_factor(2u * chunk, place);
  let hi = load_factor(2u * chunk + 1u, place);
  return Activations(
    load_columns(at0, 0u, lo, place),
    load_columns(at0 + 1u, 0u, hi, place),
    load_columns(at1, 4u, lo, place),
    load_columns(at1 + 1u, 4u, hi, place),
  );
}

fn multiply(weights: Weights8, xs: Activations) -> Acc {
  return mat2x4f(
    weights.lo * xs.lo0 + weights.hi * xs.hi0,
    weights.lo * xs.lo1 + weights.hi * xs.hi1,
  );
}

fn token_of(acc: Acc, token: u32) -> f32 { return acc[token / 4u][token % 4u]; }
