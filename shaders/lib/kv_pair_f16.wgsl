// kv_pair_f16: two neighbouring elements of a KV cache of f16: one u32. Rounds to nearest.
alias KvPair = u32;
fn pack_pair(pair: vec2f) -> KvPair { return pack2x16float(pair); }
