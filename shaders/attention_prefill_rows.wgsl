// attention_prefill_rows: attention_prefill for software adapters: the same results
//
// A lane takes four query tokens and keeps their queries and values to itself: all lanes read the
// same keys, which a CPU loads once and spreads over its vector, and nothing needs a barrier.
// Loops end at params.num_quads, not QUADS, because lavapipe would unroll them and compile for seconds.
//
// Shapes, dispatch, accuracy   as attention_prefill
// Prelude   const QUADS = head_dim / 4, GROUP = num_heads / num_kv_heads, TILE_Q
// Includes  lib/kv_f32.wgsl or lib/kv_f16.wgsl, lib/paged_kv.wgsl

struct Params {
  num_heads: u32, num_kv_heads: u32, max_blocks: u32, sliding_window: u32, scale: f32, num_quads: u32,
}
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> q: array<vec4f>;
@group(1) @binding(2) var<storage, read> key_cache: array<KvQuad>;
@group(1) @binding(3) var<storage, read> value_cache: array<KvQuad>;
@group(1) @binding(4) var<storage, read> positions: array<u32>;
@group(1) @binding(5) var<storage, read> block_tables: array<u32>;
@group(1) @binding(6) var<storage, read> prefill_tiles: array<vec4u>;
@group(1) @binding(7) var<storage, read_write> out: array<vec4f>;

// By quad of head_dim: four rows (columns: elements) of queries, and of values (columns: rows).
var<private> queries: array<mat4x4f, QUADS>;
var<private> values: array<mat4x4f, QUADS>;

fn key_quads(rows: vec4u, quad: u32) -> mat4x4f { // columns: keys
  return mat4x4f(
    unpack_quad(key_cache[rows.x + quad]), unpack_quad(key_cache[rows.y + quad]),
    unpack_quad(key_cache[rows.z + quad]), unpack_quad(key_cache[rows.w + quad]));
}

fn value_quads(rows: vec4u, quad: u32) -> mat4x4f { // columns: keys
  return mat4x4f(
    unpack_quad(value_cache[rows.x + quad]), unpack_quad(value_cache[rows.y + quad]),
    unpack_quad(value_cache[rows.z + quad]), unpack_quad(value_cache[rows.w + quad]));
}

fn load_queries(tokens: vec4u, head: u32) {
  let rows = (tokens * params.num_heads + head) * QUADS;
  for (var quad = 0u; quad < params.num_quads; quad++) {
    queries[quad] = params.scale
      * transpose(mat4x4f(q[rows.x + quad], q[rows.y + quad], q[rows.z + quad], q[rows.w + quad]));
    values[quad] = mat4x4f();
  }
}

fn add_values(rows: vec4u, weights: mat4x4f, shrink: vec4f) {
  for (var quad = 0u; quad < params.num_quads; quad++) {
    let old = values[quad];
    values[quad] = mat4x4f(
      old[0] * shrink.x, old[1] * shrink.y, old[2] * shrink.z, old[3] * shrink.w)
      + value_quads(rows, quad) * weights;
  }
}

// Scores of a key by four rows, NO_KEY where it is not visible.
fn mask(scores: vec4f, key: u32, visible_from: vec4u, seen: vec4u) -> vec4f {
  return select(vec4f(NO_KEY), scores, (vec4u(key) >= visible_from) & (vec4u(key) <= seen));
}

@compute @workgroup_size(TILE_Q / 4u)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let head = group.x;
  let tile = prefill_tiles[group.y];
  let num_tokens = tile.z;
  if (num_tokens == 0u) { return; }
  // a row past the tile's tokens repeats its last one, so that all lanes stay together
  let tokens = tile.y + min(lane * 4u + vec4u(0u, 1u, 2u, 3u), vec4u(num_tokens - 1u));
  let seen = vec4u(
    positions[tokens.x], positions[tokens.y], positions[tokens.z], positions[tokens.w]);
  let visible_from = vec4u(
    window_begin(seen.x), window_begin(seen.y), window_begin(seen.z), window_begin(seen.w));
  load_queries(tokens, head);

  var top = vec4f(NO_KEY); // of each row
  var sum = vec4f();
  let begin = window_begin(positions[tile.y]);
  let end = positions[tile.y + num_tokens - 1u] + 1u;
  for (var first = begin; first < end; first += 4u) {
    let keys = min(first + vec4u(0u, 1u, 2u, 3u), vec4u(end - 1u)); // past the end: masked below
    let rows = vec4u(
      kv_row(tile.x, keys.x, head / GROUP), kv_row(tile.x, keys.y, head / GROUP),
      kv_row(tile.x, keys.z, head / GROUP), kv_row(tile.x, keys.w, head / GROUP));
    var scores = mat4x4f(); // columns: keys
    for (var quad = 0u; quad < params.num_quads; quad++) { scores += queries[quad] * key_quads(rows, quad); }
    let a = mask(scores[0], first, visible_from, seen);
    let b = mask(scores[1], first + 1u, visible_from, seen);
    let c = mask(scores[2], first + 2u, visible_from, seen);
    let d = mask(scores[3], first + 3u, visible_from, seen);
    let new_top = max(top, max(max(a, b), max(c, d)));
    // A row that has seen no key yet weighs masked ones by e^0; at its first key, its own at the
    // latest, shrink is e^(NO_KEY - top) = 0 and forgets them.
    let weights = mat4x4f(exp(a - new_top), exp(b - new_top), exp(c - new_top), exp(d - new_top));
    let shrink = exp(top - new_top);
    top = new_top;
    sum = sum * shrink + weights * vec4f(1.0);
    add_values(rows, transpose(weights), shrink);
  }
  for (var i = 0u; i < 4u; i++) {
    if (lane * 4u + i >= num_tokens) { return; }
    let row = (tokens[i] * params.num_heads + head) * QUADS;
    for (var quad = 0u; quad < params.num_quads; quad++) { out[row + quad] = values[quad][i] / sum[i]; }
  }
}
