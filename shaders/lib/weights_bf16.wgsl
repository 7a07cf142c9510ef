// weights_bf16: eight consecutive weights from rows of bf16, two to a u32, in one 16-byte load.
// bf16 is the upper half of an f32, so widening is a shift or a mask, and exact.
// Needs     var w: array<vec4u>, rows a multiple of 8 elements long; chunk counts eights of them
struct Weights8 { lo: vec4f, hi: vec4f }

alias RawWeights = vec4u; // as they lie

fn raw_weights(chunk: u32) -> RawWeights { return w[chunk]; }
fn load_weights(chunk: u32) -> Weights8 { return widen(w[chunk]); }

fn widen(packed: RawWeights) -> Weights8 {
  let even = bitcast<vec4f>(packed << vec4u(16u));
  let odd = bitcast<vec4f>(packed & vec4u(0xffff0000u));
  return Weights8(
    vec4f(even.x, odd.x, even.y, odd.y),
    vec4f(even.z, odd.z, even.w, odd.w),
  );
}
