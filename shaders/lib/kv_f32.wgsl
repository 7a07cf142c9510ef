// kv_f32: a KV cache of f32. A quad is four consecutive elements of one head.
alias KvQuad = vec4f;

fn unpack_quad(quad: KvQuad) -> vec4f { return quad; }
fn pack_quad(values: vec4f) -> KvQuad { return values; }
