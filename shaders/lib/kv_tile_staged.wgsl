// kv_tile_staged: a tile's keys, then its values, copied to workgroup memory by coalesced reads.
const TILE_STRIDE = QUADS + 1u; // keeps lanes that read neighbouring rows on different banks
var<workgroup> kv_tile: array<vec4f, TILE_K * TILE_STRIDE>;

fn stage_keys(lane: u32) {
  for (var i = lane; i < TILE_K * QUADS; i += LANES) {
    kv_tile[i / QUADS * TILE_STRIDE + i % QUADS] = unpack_quad(key_cache[rows[i / QUADS] + i % QUADS]);
  }
  workgroupBarrier();
}

// Followed by a barrier of the caller's.
fn stage_values(lane: u32) {
  for (var i = lane; i < TILE_K * QUADS; i += LANES) {
    kv_tile[i / QUADS * TILE_STRIDE + i % QUADS] = unpack_quad(value_cache[rows[i / QUADS] + i % QUADS]);
  }
}
fn tile_key(index: u32, quad: u32) -> vec4f { return kv_tile[index * TILE_STRIDE + quad]; }
fn tile_value(index: u32, quad: u32) -> vec4f { return kv_tile[index * TILE_STRIDE + quad]; }
