// halves_f16: eight consecutive weights as f16, two to a u32, from rows of f16. Loading and converting
// are apart, so that the loads of the next tile are under way while this one is multiplied.
// Needs     var w: array<vec4u>; chunk counts eights of weights
alias Raw = vec4u;

fn load_raw(chunk: u32) -> Raw { return w[chunk]; }

fn halves_of(raw: Raw) -> vec4u { return raw; }
