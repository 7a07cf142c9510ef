// tokens_4: eight activations of four tokens, and their products with eight weights. Tokens past
// the last repeat it: they cost nothing to load and their sums are not stored.
// Needs     var x: array<vec4f> of rows of 2 * params.num_chunks
const TOKENS = 4u;
alias Acc = vec4f; // one sum a token
struct Activations { lo: mat4x4f, hi: mat4x4f } // a column a token

fn load_activations(chunk: u32, first_token: u32, last_token: u32) -> Activations {
  let stride = 2u * params.num_chunks;
  let at = 2u * chunk + stride * min(vec4u(first_token) + vec4u(0, 1, 2, 3), vec4u(last_token));
  return Activations(
    mat4x4f(x[at.x], x[at.y], x[at.z], x[at.w]),
    mat4x4f(x[at.x + 1u], x[at.y + 1u], x[at.z + 1u], x[at.w + 1u]),
  );
}

fn multiply(weights: Weights8, xs: Activations) -> Acc {
  return weights.lo * xs.lo + weights.hi * xs.hi;
}

fn token_of(acc: Acc, token: u32) -> f32 { return acc[token]; }
