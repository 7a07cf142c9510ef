// quad_f32: four neighbouring activations as they are written, f32, in rows.
alias Quad = vec4f;

fn quad_of(values: vec4f) -> Quad { return values; }

// Where quad i of a token is.
fn quad_at(token: u32, i: u32, num_quads: u32) -> u32 { return token * num_quads + i; }
