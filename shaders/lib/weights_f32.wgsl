// weights_f32: eight consecutive weights from rows of f32.
// Needs     var w: array<vec4u>, rows a multiple of 8 elements long; chunk counts eights of them
struct Weights8 { lo: vec4f, hi: vec4f }
alias RawWeights = Weights8;

fn raw_weights(chunk: u32) -> RawWeights {
  return Weights8(bitcast<vec4f>(w[2u * chunk]), bitcast<vec4f>(w[2u * chunk + 1u]));
}

fn load_weights(chunk: u32) -> Weights8 { return raw_weights(chunk); }
fn widen(weights: RawWeights) -> Weights8 { return weights; }
