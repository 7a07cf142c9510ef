// kv_f16: a KV cache of f16, two to a u32 along head_dim. A quad is four consecutive elements of
// one head. Needs no f16 feature; rounds to nearest.
alias KvQuad = vec2u;

fn unpack_quad(quad: KvQuad) -> vec4f {
  return vec4f(unpack2x16float(quad.x), unpack2x16float(quad.y));
}
fn pack_quad(values: vec4f) -> KvQuad {
  return vec2u(pack2x16float(values.xy), pack2x16float(values.zw));
}
