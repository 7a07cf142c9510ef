// halves_f32: eight consecutive weights as f16, two to a u32, from rows of f32. See halves_f16.
// Needs     var w: array<vec4u>; chunk counts eights of weights
struct Raw { lo: vec4u, hi: vec4u }

fn load_raw(chunk: u32) -> Raw { return Raw(w[2u * chunk], w[2u * chunk + 1u]); }

fn halves_of(raw: Raw) -> vec4u {
  let lo = bitcast<vec4f>(raw.lo);
  let hi = bitcast<vec4f>(raw.hi);
  return vec4u(
    pack2x16float(lo.xy),
    pack2x16float(lo.zw),
    pack2x16float(hi.xy),
    pack2x16float(hi.zw),
  );
}
