// input_plain: a GEMV's activations are what x holds.
// Needs     x
const HAS_NORM = false;

fn norm_quad(quad: u32) -> vec4f { return vec4f(); }
fn norm_element(quad: u32, component: u32) -> f32 { return 0.0; }

fn activation_quad(index: u32, token: u32, factor: vec4f) -> vec4f { return x[index]; }
fn activation_element(index: u32, component: u32, token: u32, factor: f32) -> f32 {
  return x[index][component];
}

fn squares_of(token: u32) -> f32 { return 0.0; }
fn norm_scale(squares: f32) -> f32 { return 1.0; }
fn write_residual(first_token: u32, num_tokens: u32, place: Place) {}
