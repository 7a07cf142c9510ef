// weights_f16: eight consecutive weights from rows of f16, two to a u32, in one 16-byte load.
// unpack2x16float needs no f16 feature.
// Needs     var w: array<vec4u>, rows a multiple of 8 elements long; chunk counts eights of them
struct Weights8 { lo: vec4f, hi: vec4f }

alias RawWeights = vec4u; // as they lie

fn raw_weights(chunk: u32) -> RawWeights { return w[chunk]; }
fn load_weights(chunk: u32) -> Weights8 { return widen(w[chunk]); }

fn widen(packed: RawWeights) -> Weights8 {
  return Weights8(
    vec4f(unpack2x16float(packed.x), unpack2x16float(packed.y)),
    vec4f(unpack2x16float(packed.z), unpack2x16float(packed.w)),
  );
}
