// attention_prefill: causal attention of up to TILE_Q tokens of one sequence, one head, over its
// paged context, which already holds the keys of these tokens
//   out[t, h] = sum_j softmax_j(scale * q[t, h] . k[j]) v[j],  j <= position[t], position[t] - j < window
//
// Shapes    q, out: [num_tokens, num_heads, head_dim] f32
//           key_cache, value_cache: [num_slots, num_kv_heads, head_dim] f32 or packed f16
//           prefill_tiles: [max_tiles] of (sequence row, first token row, number of tokens, 0); the
//           positions of a tile's tokens ascend
// Dispatch  (num_heads, num_prefill_tiles, 1)
// Accuracy  f32 online softmax; rtol 2e-5, atol 2e-6 against test/oracles/attention.ts
// Source    Dao 2023, FlashAttention-2, arXiv:2307.08691, algorithm 1
// Prelude   const QUADS = head_dim / 4, GROUP = num_heads / num_kv_heads, TILE_Q, TILE_K,
//           ROW_GROUPS and KEY_ROW_GROUPS (divide TILE_Q), LANES = QUADS * ROW_GROUPS >= TILE_K * KEY_ROW_GROUPS
// Includes  lib/kv_f32.wgsl or lib/kv_f16.wgsl, lib/paged_kv.wgsl, lib/attention_out.wgsl
const STRIDE = QUADS + 1u;                // keeps neighbouring rows on different banks
const ROWS = TILE_Q / ROW_GROUPS;         // output rows a lane accumulates
const KEY_ROWS = TILE_Q / KEY_ROW_GROUPS; // rows a lane scores against its key

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
@group(1) @binding(7) var<storage, read_write> out: array<Quad>;

var<workgroup> queries: array<vec4f, TILE_Q * STRIDE>;
var<workgroup> kv_tile: array<vec4f, TILE_K * STRIDE>; // the tile's keys, then its values
var<workgroup> row_positions: array<u32, TILE_Q>;
var<workgroup> rows: array<u32, TILE_K>;              // where each key of the tile lies
var<workgroup> weights: array<f32, TILE_Q * TILE_K>;  // scores, then e^(score - top)
var<workgroup> tops: array<f32, TILE_Q>;              // maximum of each row so far
var<workgroup> shrinks: array<f32, TILE_Q>;           // e^(old top - new top)

// Rows past the tile's tokens repeat its last one; their results are not written.
fn load_queries(head: u32, first_token: u32, num_tokens: u32, lane: u32) {
  for (var i = lane; i < TILE_Q * QUADS; i += LANES) {
    let token = first_token + min(i / QUADS, num_tokens - 1u);
    queries[i / QUADS * STRIDE + i % QUADS] =
      q[(token * params.num_heads + head) * QUADS + i % QUADS] * params.scale;
  }
  for (var row = lane; row < TILE_Q; row += LANES) {
    row_positions[row] = positions[first_token + min(row, num_tokens - 1u)];
    tops[row] = NO_KEY;
  }
}

fn stage_keys(lane: u32) {
  for (var i = lane; i < TILE_K * QUADS; i += LANES) {
    kv_tile[i / QUADS * STRIDE + i % QUADS] = unpack_quad(key_cache[rows[i / QUADS] + i % QUADS]);
  }
}

fn stage_values(lane: u32) {
  for (var i = lane; i < TILE_K * QUADS; i += LANES) {
    kv_tile[i / QUADS * STRIDE + i % QUADS] = unpack_quad(value_cache[rows[i / QUADS] + i % QUADS]);
  }
}

// Scores of the tile's keys from `first` on: a lane takes one key and KEY_ROWS rows.
fn score_tile(first: u32, lane: u32) {
  let key_index = lane % TILE_K;
  let row_group = lane / TILE_K;
  if (row_group >= KEY_ROW_GROUPS) { return; }
  var scores = array<f32, KEY_ROWS>();
  for (var quad = 0u; quad < QUADS; quad++) {
    let key = kv_tile[key_index * STRIDE + quad];
    for (var i = 0u; i < KEY_ROWS; i++) {
      scores[i] += dot(queries[(row_group + i * KEY_ROW_GROUPS) * STRIDE + quad], key);
    }
  }
  for (var i = 0u; i < KEY_ROWS; i++) {
    let row = row_group + i * KEY_ROW_GROUPS;
    let position = row_positions[row];
    let key_position = first + key_index;
    let visible = key_position <= position && key_position >= window_begin(position);
    weights[row * TILE_K + key_index] = select(NO_KEY, scores[i], visible);
  }
}

fn update_tops(lane: u32) {
  for (var row = lane; row < TILE_Q; row += LANES) {
    var top = tops[row];
    for (var i = 0u; i < TILE_K; i++) { top = max(top, weights[row * TILE_K + i]); }
    shrinks[row] = exp(tops[row] - top);
    tops[row] = top;
  }
}

// A row that has seen no key yet weighs masked ones by e^0; at its first key, its own at the
// latest, its shrink is e^(NO_KEY - top) = 0 and forgets them.
fn weigh(lane: u32) {
  for (var i = lane; i < TILE_Q * TILE_K; i += LANES) {
    weights[i] = exp(weights[i] - tops[i / TILE_K]);
  }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let head = group.x;
  let tile = prefill_tiles[group.y];
  let first_token = tile.y;
  let num_tokens = tile.z;
  if (num_tokens == 0u) { return; }
  load_queries(head, first_token, num_tokens, lane);

  let quad = lane % QUADS;
  let row_group = lane / QUADS;
  var values = array<vec4f, ROWS>();
  var sums = array<f32, ROWS>();
  let begin = window_begin(positions[first_token]);
  let end = positions[first_token + num_tokens - 1u] + 1u;
  for (var first = begin; first < end; first += TILE_K) {
    for (var i = lane; i < TILE_K; i += LANES) { // past the end: the last key again, masked below
      rows[i] = kv_row(tile.x, min(first + i, end - 1u), head / GROUP);
    }
    workgroupBarrier();
    stage_keys(lane);
    workgroupBarrier();
    score_tile(first, lane);
    workgroupBarrier();
    update_tops(lane);
    stage_values(lane);
    workgroupBarrier();
    weigh(lane);
    workgroupBarrier();
    for (var i = 0u; i < ROWS; i++) {
      let shrink = shrinks[row_group + i * ROW_GROUPS];
      values[i] *= shrink;
      sums[i] *= shrink;
    }
    for (var key = 0u; key < TILE_K; key++) {
      let value = kv_tile[key * STRIDE + quad];
      for (var i = 0u; i < ROWS; i++) {
        let weight = weights[(row_group + i * ROW_GROUPS) * TILE_K + key];
        values[i] += weight * value;
        sums[i] += weight;
      }
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < ROWS; i++) {
    let row = row_group + i * ROW_GROUPS;
    if (row < num_tokens) {
      put_out(first_token + row, head, quad, values[i] / sums[i]);
    }
  }
}
