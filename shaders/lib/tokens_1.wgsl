// tokens_1: one token's eight activations, and their product with eight weights.
// Needs     lib/linear_io.wgsl, lib/weights_*.wgsl, lib/x_*.wgsl
const TOKENS = 1u;
alias Acc = f32; // one sum a token
struct Activations { lo: vec4f, hi: vec4f }

fn load_activations(chunk: u32, first_token: u32, last_token: u32, place: Place) -> Activations {
  let at = 2u * (first_token * params.num_chunks + chunk);
  return Activations(
    load_x(at, 0u, load_factor(2u * chunk, place), place),
    load_x(at + 1u, 0u, load_factor(2u * chunk + 1u, place), place),
  );
}

fn multiply(weights: Weights8, xs: Activations) -> Acc {
  return dot(weights.lo, xs.lo) + dot(weights.hi, xs.hi);
}

fn token_of(acc: Acc, token: u32) -> f32 { return acc; }
