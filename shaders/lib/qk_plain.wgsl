// qk_plain: the outputs of qk_norm_rope where q and k are not normalised (Llama, Mistral, Qwen2).
@group(1) @binding(5) var<storage, read_write> q: array<vec4f>;
@group(1) @binding(6) var<storage, read_write> key_cache: array<KvQuad>;
@group(1) @binding(7) var<storage, read_write> value_cache: array<KvQuad>;

fn normalise(pair: Pair, _row: u32, _at: u32, _is_key: bool) -> Pair { return pair; }
