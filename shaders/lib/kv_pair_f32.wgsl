// kv_pair_f32: two neighbouring elements of a KV cache of f32.
alias KvPair = vec2f;
fn pack_pair(pair: vec2f) -> KvPair { return pair; }
