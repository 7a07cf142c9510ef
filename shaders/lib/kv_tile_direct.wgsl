// kv_tile_direct: a tile's keys and values read from the cache where they are used. Each is used by
// one lane or few; on CPUs a copy in workgroup memory would cost as much as the read.
fn stage_keys(_lane: u32) {}
fn stage_values(_lane: u32) {}
fn tile_key(index: u32, quad: u32) -> vec4f { return unpack_quad(key_cache[rows[index] + quad]); }
fn tile_value(index: u32, quad: u32) -> vec4f { return unpack_quad(value_cache[rows[index] + quad]); }
