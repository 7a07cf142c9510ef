// halves_bf16: eight consecutive weights as f16, two to a u32, from rows of bf16. Exact from 2^-14 to
// 65,504, beyond any weight; smaller ones round to a multiple of 2^-24. See halves_f16.
// Needs     var w: array<vec4u>; chunk counts eights of weights
alias Raw = vec4u;

fn load_raw(chunk: u32) -> Raw { return w[chunk]; }

fn halves_of(raw: Raw) -> vec4u {
  let even = bitcast<vec4f>(raw << vec4u(16u));
  let odd = bitcast<vec4f>(raw & vec4u(0xffff0000u));
  return vec4u(
    pack2x16float(vec2f(even.x, odd.x)),
    pack2x16float(vec2f(even.y, odd.y)),
    pack2x16float(vec2f(even.z, odd.z)),
    pack2x16float(vec2f(even.w, odd.w)),
  );
}
