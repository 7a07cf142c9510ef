// tokens_8: eight activations of eight tokens, and their products with eight weights. Tokens past
// the last repeat it: they cost nothing to load and their sums are not stored.
// Needs     var x: array<vec4f> of rows of 2 * params.num_chunks
const TOKENS = 8u;
alias Acc = mat2x4f; // one sum a token
struct Activations { lo0: mat4x4f, hi0: mat4x4f, lo1: mat4x4f, hi1: mat4x4f } // a column a token

fn load_activations(chunk: u32, first_token: u32, last_token: u32) -> Activations {
  let stride = 2u * params.num_chunks;
  let a = 2u * chunk + stride * min(vec4u(first_token) + vec4u(0, 1, 2, 3), vec4u(last_token));
  let b = 2u * chunk + stride * min(vec4u(first_token) + vec4u(4, 5, 6, 7), vec4u(last_token));
  return Activations(
    mat4x4f(x[a.x], x[a.y], x[a.z], x[a.w]),
    mat4x4f(x[a.x + 1u], x[a.y + 1u], x[a.z + 1u], x[a.w + 1u]),
    mat4x4f(x[b.x], x[b.y], x[b.z], x[b.w]),
    mat4x4f(x[b.x + 1u], x[b.y + 1u], x[b.z + 1u], x[b.w + 1u]),
  );
}

fn multiply(weights: Weights8, xs: Activations) -> Acc {
  return mat2x4f(
    weights.lo * xs.lo0 + weights.hi * xs.hi0,
    weights.lo * xs.lo1 + weights.hi * xs.hi1,
  );
}

fn token_of(acc: Acc, token: u32) -> f32 { return acc[token / 4u][token % 4u]; }
