// attention_prefill_rows: attention_prefill for software adapters: the same results
//
// A lane takes one query token and keeps its query and its values to itself: all lanes read the
// same keys, which a CPU loads once and spreads over its vector, and nothing needs a barrier.
//
// Shapes, dispatch, accuracy   as attention_prefill
// Prelude   const QUADS = head_dim / 4, GROUP = num_heads / num_kv_heads, TILE_Q
// Includes  lib/kv_f32.wgsl or lib/kv_f16.wgsl, lib/paged_kv.wgsl

struct Params {
  num_heads: u32, num_kv_heads: u32, max_blocks: u32, sliding_window: u32, scale: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4f>;
@group(0) @binding(2) var<storage, read> key_cache: array<KvQuad>;
@group(0) @binding(3) var<storage, read> value_cache: array<KvQuad>;
@group(0) @binding(4) var<storage, read> positions: array<u32>;
@group(0) @binding(5) var<storage, read> block_tables: array<u32>;
@group(0) @binding(6) var<storage, read> prefill_tiles: array<vec4u>;
@group(0) @binding(7) var<storage, read_write> out: array<vec4f>;

var<private> query: array<vec4f, QUADS>;
var<private> values: array<vec4f, QUADS>;

// Scores of four keys.
fn score(rows: vec4u) -> vec4f {
  var scores = vec4f();
  for (var quad = 0u; quad < QUADS; quad++) {
    let part = query[quad];
    scores += vec4f(
      dot(part, unpack_quad(key_cache[rows.x + quad])),
      dot(part, unpack_quad(key_cache[rows.y + quad])),
      dot(part, unpack_quad(key_cache[rows.z + quad])),
      dot(part, unpack_quad(key_cache[rows.w + quad])));
  }
  return scores;
}

fn add_values(rows: vec4u, weights: vec4f, shrink: f32) {
  for (var quad = 0u; quad < QUADS; quad++) {
    values[quad] = values[quad] * shrink
      + weights.x * unpack_quad(value_cache[rows.x + quad])
      + weights.y * unpack_quad(value_cache[rows.y + quad])
      + weights.z * unpack_quad(value_cache[rows.z + quad])
      + weights.w * unpack_quad(value_cache[rows.w + quad]);
  }
}

@compute @workgroup_size(TILE_Q)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let head = group.x;
  let tile = prefill_tiles[group.y];
  let num_tokens = tile.z;
  if (num_tokens == 0u) { return; }
  // a lane past the tile's tokens repeats its last one, so that all lanes stay together
  let token = tile.y + min(lane, num_tokens - 1u);
  let position = positions[token];
  let visible_from = window_begin(position);
  let row = (token * params.num_heads + head) * QUADS;
  for (var quad = 0u; quad < QUADS; quad++) {
    query[quad] = q[row + quad] * params.scale;
    values[quad] = vec4f();
  }

  var top = NO_KEY;
  var sum = 0.0;
  let begin = window_begin(positions[tile.y]);
  let end = positions[tile.y + num_tokens - 1u] + 1u;
  for (var first = begin; first < end; first += 4u) {
    let keys = vec4u(first) + vec4u(0u, 1u, 2u, 3u);
    let clamped = min(keys, vec4u(end - 1u)); // past the end: the last key again, masked
    let rows = vec4u(
      kv_row(tile.x, clamped.x, head / GROUP), kv_row(tile.x, clamped.y, head / GROUP),
      kv_row(tile.x, clamped.z, head / GROUP), kv_row(tile.x, clamped.w, head / GROUP));
    let visible = (keys <= vec4u(position)) & (keys >= vec4u(visible_from));
    let scores = select(vec4f(NO_KEY), score(rows), visible);
    let new_top = max(top, max(max(scores.x, scores.y), max(scores.z, scores.w)));
    let shrink = exp(top - new_top);
    // a masked key weighs 0 even while no key is seen, where e^(score - top) would be 1
    let weights = select(vec4f(), exp(scores - new_top), visible);
    top = new_top;
    sum = sum * shrink + dot(weights, vec4f(1.0));
    add_values(rows, weights, shrink);
  }
  if (lane >= num_tokens) { return; }
  for (var quad = 0u; quad < QUADS; quad++) { out[row + quad] = values[quad] / sum; }
}
