// x_load: four activations, loaded by every lane for itself.
fn load_x(index: u32, place: Place) -> vec4f { return x[index]; }
