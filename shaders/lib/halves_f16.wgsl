// halves_f16: eight consecutive weights as f16, two to a u32, from rows of f16.
// Needs     var w: array<vec4u>; chunk counts eights of weights
fn load_halves(chunk: u32) -> vec4u { return w[chunk]; }
