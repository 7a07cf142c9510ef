// input_normed: a GEMV's activations are RMSNorm(residual). 1 / rms is the same for all of a token's
// sums, so it multiplies them at the end: y[n] = rms^-1 * sum_k r[k] norm_w[k] w[n, k]. The squares
// that it takes are summed by the loop that reads r.
// Needs     params.eps, norm_w; TOKENS; lib/residual_*.wgsl
const HAS_NORM = true;
var<private> squares: array<f32, TOKENS>; // what this lane has read

fn norm_quad(quad: u32) -> vec4f { return norm_w[quad]; }
fn norm_element(quad: u32, component: u32) -> f32 { return norm_w[quad][component]; }

// `token` counts from the workgroup's first; `factor` is norm_quad.
fn activation_quad(index: u32, token: u32, factor: vec4f) -> vec4f {
  let value = residual_quad(index);
  squares[token] += dot(value, value);
  return value * factor;
}

fn activation_element(index: u32, component: u32, token: u32, factor: f32) -> f32 {
  let value = residual_element(index, component);
  squares[token] += value * value;
  return value * factor;
}

fn squares_of(token: u32) -> f32 { return squares[token]; }

// From the sum of a token's squares.
fn norm_scale(sum: f32) -> f32 {
  return inverseSqrt(sum / f32(8u * params.num_chunks) + params.eps);
}
