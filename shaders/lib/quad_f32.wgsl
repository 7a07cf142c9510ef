// quad_f32: four neighbouring activations as they are written, f32.
alias Quad = vec4f;

fn quad_of(values: vec4f) -> Quad { return values; }
