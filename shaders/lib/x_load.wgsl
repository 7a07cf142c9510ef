// x_load: four activations, loaded by every lane for itself.
// Needs     lib/input_*.wgsl
alias Factor = vec4f;

fn load_factor(quad: u32, place: Place) -> Factor { return norm_quad(quad); }

fn load_x(index: u32, token: u32, factor: Factor, place: Place) -> vec4f {
  return activation_quad(index, token, factor);
}

// Squares of the activations that this lane got.
fn lane_squares(token: u32) -> f32 { return squares_of(token); }
