// attention_prefill_matrix: attention_prefill on tensor cores, for a head_dim of 64 or 128
//   out[t, h] = sum_j softmax_j(scale * q[t, h] . k[j]) v[j],  j <= position[t], position[t] - j < window
//
// A unit is one tile of prefill_tiles (16 tokens of a sequence) and one of the GROUP query heads
// that share a KV head. A subgroup has a unit; the subgroups of a workgroup take neighbouring units
// of one KV head, heads first, and share each staged tile of 32 keys and values. Where the tiles of
// a workgroup are of several sequences, it attends to one after the other.
//
// WGSL has no elementwise operation on matrices, so scores go through workgroup memory, where two
// lanes share a row. The sums of values stay in matrices: a row's weights are 2^(score - top) for a
// top that follows the maximum only once it lags by HEADROOM, and only then do the sums go through
// workgroup memory to be scaled. That is exact: the weights are at most 2^HEADROOM, within f16.
// Matrices are named, not in arrays: drivers keep those in memory where they do not unroll loops.
//
// Shapes    as attention_prefill
// Dispatch  (num_kv_heads, ceil(num_prefill_tiles * GROUP / SUBGROUPS), 1)
// Accuracy  q * scale * log2(e), k, the weights and v rounded to f16; f32 sums; see
//           test/kernels/attentionMatrix.gpu.test.ts
// Source    Dao 2023, FlashAttention-2, arXiv:2307.08691, algorithm 1; late rescaling as in FlashAttention-4
// Prelude   const HEAD_DIM, QUADS = head_dim / 4, GROUP = num_heads / num_kv_heads, SUBGROUPS a
//           workgroup: 8, or 4 with a HEAD_DIM of 64
// Includes  lib/live.wgsl, lib/kv_oct_f32.wgsl or lib/kv_oct_f16.wgsl, lib/paged_kv.wgsl,
//           lib/prefill_units.wgsl, lib/matrix_pairs.wgsl, lib/attention_out.wgsl
// Needs     subgroups of 32; matrices of f16, 16 x 16 x 16, with f32 results
const TILE_K = 32u;
const LANES = SUBGROUPS * 32u;
const ROWS = SUBGROUPS * 16u;
const OCTS = HEAD_DIM / 8u;           // eights of halves in a row
const LOADS = TILE_K * OCTS / LANES;  // eights that a lane brings of each tile: 1 or 2
// Distances of rows in workgroup memory, in 16 bytes, chosen against bank conflicts
const STRIDE = OCTS + 1u;
const SCORE_STRIDE = TILE_K / 4u + 2u;
const WEIGHT_STRIDE = TILE_K / 8u + 1u;
const HEADROOM = 10.0; // weights reach 2^HEADROOM
const LN_2 = 0.6931471805599453;

struct Params {
  num_heads: u32, num_kv_heads: u32, max_blocks: u32, sliding_window: u32, scale: f32, num_quads: u32,
}
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> q: array<vec4f>;
@group(1) @binding(2) var<storage, read> key_cache: array<KvOct>;
@group(1) @binding(3) var<storage, read> value_cache: array<KvOct>;
@group(1) @binding(4) var<storage, read> positions: array<u32>;
@group(1) @binding(5) var<storage, read> block_tables: array<u32>;
@group(1) @binding(6) var<storage, read> prefill_tiles: array<vec4u>;
@group(1) @binding(7) var<storage, read_write> out: array<Quad>;

var<workgroup> keys: array<vec4u, TILE_K * STRIDE>;
var<workgroup> values: array<vec4u, TILE_K * STRIDE>;
var<workgroup> scores: array<vec4u, ROWS * SCORE_STRIDE>;   // f32; also queries and sums of values
var<workgroup> weights: array<vec4u, ROWS * WEIGHT_STRIDE>; // f16
var<workgroup> growths: array<u32, SUBGROUPS>;              // 1: a top has moved

// 64 columns of all rows of q, scaled so that weights are powers of two, into `scores`.
fn stage_queries(run: Run, columns: u32, lane: u32) {
  let most = vec4f(65504.0);
  for (var i = lane; i < ROWS * 8u; i += LANES) {
    let at = query_row(run, i / 8u) * QUADS + columns * 16u + i % 8u * 2u;
    let low = clamp(q[at] * (params.scale / LN_2), -most, most);
    let high = clamp(q[at + 1u] * (params.scale / LN_2), -most, most);
    scores[i / 8u * SCORE_STRIDE + i % 8u] = vec4u(
      pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
  }
}

fn load_queries(run: Run, lane: u32, first_row: u32) -> Queries {
  var queries: Queries;
  stage_queries(run, 0u, lane);
  workgroupBarrier();
  queries.low = load_lefts(first_row * SCORE_STRIDE);
  workgroupBarrier();
  if (HEAD_DIM > 64u) {
    stage_queries(run, 1u, lane);
    workgroupBarrier();
    queries.high = load_lefts(first_row * SCORE_STRIDE);
    workgroupBarrier();
  }
  return queries;
}

// Two of a lane's eights of a tile; with LOADS = 1 the second is unused.
struct Places { a: u32, b: u32 }
struct OctPair { a: KvOct, b: KvOct }

// Where the eight `index` of the tile from `first` on lies in the caches; past the end, in the last key.
fn place_of(run: Run, first: u32, end: u32, index: u32) -> u32 {
  let position = min(first + index / OCTS, end - 1u);
  return kv_row(run.sequence, position, run.kv_head) / 2u + index % OCTS;
}

fn places_of(run: Run, first: u32, end: u32, lane: u32) -> Places {
  var places = Places(place_of(run, first, end, lane), 0u);
  if (LOADS > 1u) { places.b = place_of(run, first, end, lane + LANES); }
  return places;
}

fn load_keys(places: Places) -> OctPair {
  var octs = OctPair(load_key(places.a), no_oct());
  if (LOADS > 1u) { octs.b = load_key(places.b); }
  return octs;
}

fn load_values(places: Places) -> OctPair {
  var octs = OctPair(load_value(places.a), no_oct());
  if (LOADS > 1u) { octs.b = load_value(places.b); }
  return octs;
}

fn stage_key(index: u32, oct: KvOct) {
  keys[index / OCTS * STRIDE + index % OCTS] = to_halves(oct);
}

// The columns of the weights are keys in another order (see weigh), and so are the rows of values.
fn stage_value(index: u32, oct: KvOct) {
  let key = index / OCTS;
  let row = (key & ~12u) | ((key & 4u) << 1u) | ((key & 8u) >> 1u);
  values[row * STRIDE + index % OCTS] = to_halves(oct);
}

fn stage_keys(octs: OctPair, lane: u32) {
  stage_key(lane, octs.a);
  if (LOADS > 1u) { stage_key(lane + LANES, octs.b); }
}

fn stage_values(octs: OctPair, lane: u32) {
  stage_value(lane, octs.a);
  if (LOADS > 1u) { stage_value(lane + LANES, octs.b); }
}

fn mask(quad: vec4f, first_key: u32, row: Row) -> vec4f {
  let key = first_key + vec4u(0u, 1u, 2u, 3u);
  return select(vec4f(NO_KEY), quad, (key >= vec4u(row.begin)) & (key < vec4u(row.end)));
}

fn pack_weights(low: vec4f, high: vec4f) -> vec4u {
  return vec4u(
    pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
}

// The scores of half a row become weights. The halves take every other four keys, against bank
// conflicts, and store eight weights together: of 16 keys, 0-3 and 8-11 before 4-7 and 12-15.
fn weigh(before: Row, row_index: u32, half: u32, first: u32, is_masked: bool) -> Row {
  var row = before;
  let begin = row_index * SCORE_STRIDE + half;
  var a = bitcast<vec4f>(scores[begin]);
  var b = bitcast<vec4f>(scores[begin + 2u]);
  var c = bitcast<vec4f>(scores[begin + 4u]);
  var d = bitcast<vec4f>(scores[begin + 6u]);
  if (is_masked) {
    let key = first + half * 4u;
    a = mask(a, key, row);
    b = mask(b, key + 8u, row);
    c = mask(c, key + 16u, row);
    d = mask(d, key + 24u, row);
  }
  let tops = max(max(a, b), max(c, d));
  var top = max(max(tops.x, tops.y), max(tops.z, tops.w));
  top = max(top, subgroupShuffleXor(top, 1u));
  let is_growing = top > row.top + HEADROOM;
  row.shrink = select(1.0, exp2(row.top - top), is_growing);
  row.top = select(row.top, top, is_growing);
  a = exp2(a - row.top);
  b = exp2(b - row.top);
  c = exp2(c - row.top);
  d = exp2(d - row.top);
  let sums = (a + b) + (c + d);
  row.sum = row.sum * row.shrink + (sums.x + sums.y) + (sums.z + sums.w);
  weights[row_index * WEIGHT_STRIDE + half] = pack_weights(a, b);
  weights[row_index * WEIGHT_STRIDE + half + 2u] = pack_weights(c, d);
  return row;
}

// Multiplies a row of 32 sums of values in `scores`; two lanes share it.
fn scale_row(row_index: u32, half: u32, factor: f32) {
  let begin = row_index * SCORE_STRIDE + half;
  for (var i = 0u; i < 8u; i += 2u) {
    scores[begin + i] = bitcast<vec4u>(bitcast<vec4f>(scores[begin + i]) * factor);
  }
}

fn scale_pair(pair: Pair, first_row: u32, sub_lane: u32, factor: f32) -> Pair {
  store_pair(pair, first_row * SCORE_STRIDE);
  workgroupBarrier();
  scale_row(first_row + sub_lane / 2u, sub_lane % 2u, factor);
  workgroupBarrier();
  return load_pair(first_row * SCORE_STRIDE);
}

fn scale_sums(sums: Outputs, first_row: u32, sub_lane: u32, factor: f32) -> Outputs {
  var scaled = sums;
  scaled.a = scale_pair(sums.a, first_row, sub_lane, factor);
  scaled.b = scale_pair(sums.b, first_row, sub_lane, factor);
  if (HEAD_DIM > 64u) {
    scaled.c = scale_pair(sums.c, first_row, sub_lane, factor);
    scaled.d = scale_pair(sums.d, first_row, sub_lane, factor);
  }
  return scaled;
}

// Writes 32 columns of the results, scaled, to `out`.
fn write_pair(run: Run, pair: Pair, columns: u32, first_row: u32, lane: u32, sub_lane: u32, factor: f32) {
  store_pair(pair, first_row * SCORE_STRIDE);
  workgroupBarrier();
  scale_row(first_row + sub_lane / 2u, sub_lane % 2u, factor);
  workgroupBarrier();
  for (var i = lane; i < ROWS * 8u; i += LANES) {
    let row = i / 8u;
    let unit = run.first_unit + row / 16u;
    if (is_live(run, unit) && row % 16u < prefill_tiles[unit / GROUP].z) {
      let to = query_row(run, row);
      let value = bitcast<vec4f>(scores[row * SCORE_STRIDE + i % 8u]);
      put_out(to / params.num_heads, to % params.num_heads, columns * 8u + i % 8u, value);
    }
  }
  workgroupBarrier();
}

fn has_grown(flags: array<u32, SUBGROUPS>) -> bool {
  var any = 0u;
  for (var i = 0u; i < SUBGROUPS; i++) { any |= flags[i]; }
  return any != 0u;
}

fn attend(run: Run, lane: u32, subgroup: u32, sub_lane: u32) {
  let half = sub_lane % 2u;
  let first_row = subgroup * 16u; // of this subgroup
  let row_index = first_row + sub_lane / 2u;
  let queries = load_queries(run, lane, first_row);
  var sums = Outputs();
  var row = row_of(run, row_index);
  let sight = sight_of(run, run.first_unit + subgroup);

  let begin = window_begin(positions[prefill_tiles[run.first_tile].y]);
  let end = last_position(prefill_tiles[run.end_tile - 1u]) + 1u;
  var places = places_of(run, begin, end, lane);
  var next_places = places_of(run, begin + TILE_K, end, lane);
  stage_keys(load_keys(places), lane);
  workgroupBarrier();
  for (var first = begin; first < end; first += TILE_K) {
    // on their way while the scores are computed: this tile's values and the next one's keys
    let value_octs = load_values(places);
    let key_octs = load_keys(next_places);
    places = next_places;
    next_places = places_of(run, first + 2u * TILE_K, end, lane);

    store_pair(multiply_keys(queries), first_row * SCORE_STRIDE);
    workgroupBarrier();
    let is_masked = first < sight.begin || first + TILE_K > sight.end;
    let old_sum = row.sum;
    row = weigh(row, row_index, half, first, is_masked);
    let is_growing = subgroupAny(row.shrink != 1.0 && old_sum > 0.0);
    if (sub_lane == 0u) { growths[subgroup] = select(0u, 1u, is_growing); }
    stage_values(value_octs, lane);
    stage_keys(key_octs, lane);
    if (has_grown(workgroupUniformLoad(&growths))) {
      sums = scale_sums(sums, first_row, sub_lane, row.shrink);
    }
    sums = add_weighted(sums, first_row * WEIGHT_STRIDE);
  }

  let factor = 1.0 / (row.sum + subgroupShuffleXor(row.sum, 1u));
  workgroupBarrier();
  write_pair(run, sums.a, 0u, first_row, lane, sub_lane, factor);
  write_pair(run, sums.b, 1u, first_row, lane, sub_lane, factor);
  if (HEAD_DIM > 64u) {
    write_pair(run, sums.c, 2u, first_row, lane, sub_lane, factor);
    write_pair(run, sums.d, 3u, first_row, lane, sub_lane, factor);
  }
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) num_groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) sub_lane: u32,
) {
  // the last tiles of a prompt see the most keys: first come the longest
  let first_unit = (num_groups.y - 1u - group.y) * SUBGROUPS;
  let num_units = live.num_prefill_tiles * GROUP;
  let end_unit = min(first_unit + SUBGROUPS, num_units);
  let end_tile = (end_unit - 1u) / GROUP + 1u;
  var tile = first_unit / GROUP;
  while (tile < end_tile) {
    let sequence = prefill_tiles[tile].x;
    var end = tile + 1u;
    while (end < end_tile && prefill_tiles[end].x == sequence) { end++; }
    attend(Run(sequence, tile, end, group.x, first_unit, num_units), lane, subgroup, sub_lane);
    tile = end;
  }
}
