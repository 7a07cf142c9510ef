// residual_whole: the residual has all that was added to it.
// Needs     x
fn residual_quad(index: u32) -> vec4f { return x[index]; }
fn residual_element(index: u32, component: u32) -> f32 { return x[index][component]; }
fn write_residual(first_token: u32, num_tokens: u32, place: Place) {}
