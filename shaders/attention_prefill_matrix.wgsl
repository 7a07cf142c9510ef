// attention_prefill_matrix: attention_prefill on tensor cores, for a head_dim of 64 or 128
//   out[t, h] = sum_j softmax_j(scale * q[t, h] . k[j]) v[j],  j <= position[t], position[t] - j < window
//
// A unit is one tile of prefill_tiles (16 tokens of a sequence) and one of the GROUP query heads
// that share a KV head. A subgroup has UNITS of them; the subgroups of a workgroup take neighbouring
// units of one KV head, heads first, and share each staged tile of keys and values. Where the tiles
// of a workgroup are of several sequences, it attends to one after the other.
//
// WGSL has no elementwise operation on matrices, so scores go through workgroup memory, where two
// lanes share a row. The sums of values stay in matrices: a row's weights are e^(score - top) for a
// top that follows the maximum only once it lags by HEADROOM, and only then do the sums go through
// workgroup memory to be scaled. That is exact: the weights are at most 2^HEADROOM, within f16.
//
// Shapes    as attention_prefill
// Dispatch  (num_kv_heads, ceil(num_prefill_tiles * GROUP / (SUBGROUPS * UNITS)), 1)
// Accuracy  q * scale * log2(e), k, the weights and v rounded to f16; f32 sums; see
//           test/kernels/attentionMatrix.gpu.test.ts
// Source    Dao 2023, FlashAttention-2, arXiv:2307.08691, algorithm 1; FlashAttention-4's late rescaling
// Prelude   const HEAD_DIM, QUADS = head_dim / 4, GROUP = num_heads / num_kv_heads, SUBGROUPS a
//           workgroup, UNITS a subgroup, TILE_K = 32 or 64 keys
// Includes  lib/live.wgsl, lib/kv_oct_f32.wgsl or lib/kv_oct_f16.wgsl, lib/paged_kv.wgsl
// Needs     subgroups of 32; matrices of f16, 16 x 16 x 16, with f32 results
const LANES = SUBGROUPS * 32u;
const ROWS = SUBGROUPS * UNITS * 16u;
const OCTS = HEAD_DIM / 8u;             // eights of halves in a row
const DEPTH = HEAD_DIM / 16u;           // matrices along head_dim
const KEY_BLOCKS = TILE_K / 16u;        // matrices along the keys of a tile
const LOADS = TILE_K * OCTS / LANES;    // eights that a lane brings of each tile
const LANE_QUADS = TILE_K / 8u;         // of a row's scores, half a row a lane
// Distances of rows in workgroup memory, in 16 bytes, chosen against bank conflicts
const STRIDE = OCTS + 1u;
const SCORE_STRIDE = TILE_K / 4u + 2u;
const WEIGHT_STRIDE = TILE_K / 8u + 1u;
const HEADROOM = 10.0; // weights reach 2^HEADROOM
const FLOOR = -1e20;   // below every score and far above NO_KEY

struct Params {
  num_heads: u32, num_kv_heads: u32, max_blocks: u32, sliding_window: u32, scale: f32, num_quads: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4f>;
@group(0) @binding(2) var<storage, read> key_cache: array<KvOct>;
@group(0) @binding(3) var<storage, read> value_cache: array<KvOct>;
@group(0) @binding(4) var<storage, read> positions: array<u32>;
@group(0) @binding(5) var<storage, read> block_tables: array<u32>;
@group(0) @binding(6) var<storage, read> prefill_tiles: array<vec4u>;
@group(0) @binding(7) var<storage, read_write> out: array<vec4f>;

var<workgroup> keys: array<vec4u, TILE_K * STRIDE>;
var<workgroup> values: array<vec4u, TILE_K * STRIDE>;
var<workgroup> scores: array<vec4u, ROWS * SCORE_STRIDE>;   // f32; also queries and sums of values
var<workgroup> weights: array<vec4u, ROWS * WEIGHT_STRIDE>; // f16
var<workgroup> growths: array<u32, SUBGROUPS>;              // 1: a top has moved

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sums = subgroup_matrix_result<f32, 16, 16>;

// Neighbouring tiles of one sequence, and the units of the workgroup; the same in all lanes.
struct Run { sequence: u32, first_tile: u32, end_tile: u32, kv_head: u32, first_unit: u32, num_units: u32 }

// Keys that the rows of a unit see: some row sees those in begin..end, every row those in all_begin..all_end.
struct Sight { begin: u32, end: u32, all_begin: u32, all_end: u32 }

// What a lane keeps of a row: the keys it sees, and its half of the softmax.
struct Row { begin: u32, end: u32, top: f32, sum: f32, shrink: f32 }

fn is_live(run: Run, unit: u32) -> bool {
  return unit < run.num_units && unit / GROUP >= run.first_tile && unit / GROUP < run.end_tile;
}

fn last_position(tile: vec4u) -> u32 { return positions[tile.y + tile.z - 1u]; }

fn sight_of(run: Run, unit: u32) -> Sight {
  if (!is_live(run, unit)) { return Sight(); }
  let tile = prefill_tiles[unit / GROUP];
  let first = positions[tile.y];
  let last = last_position(tile);
  return Sight(window_begin(first), last + 1u, window_begin(last), first + 1u);
}

// Where the row of a unit lies in q and out, in rows of head_dim. Rows past the tile's tokens repeat its last.
fn query_row(run: Run, row: u32) -> u32 {
  let unit = min(run.first_unit + row / 16u, run.num_units - 1u);
  let tile = prefill_tiles[unit / GROUP];
  let token = tile.y + min(row % 16u, tile.z - 1u);
  return token * params.num_heads + run.kv_head * GROUP + unit % GROUP;
}

fn row_of(run: Run, row: u32) -> Row {
  let unit = run.first_unit + row / 16u;
  if (!is_live(run, unit)) { return Row(0u, 0u, FLOOR, 0.0, 1.0); }
  let tile = prefill_tiles[unit / GROUP];
  let position = positions[tile.y + min(row % 16u, tile.z - 1u)];
  return Row(window_begin(position), position + 1u, FLOOR, 0.0, 1.0);
}

// 64 columns of all rows of q, scaled, into `scores`.
fn stage_queries(run: Run, pass_index: u32, lane: u32) {
  let scale = params.scale * 1.4426950408889634; // weights are powers of two
  for (var i = lane; i < ROWS * 8u; i += LANES) {
    let at = query_row(run, i / 8u) * QUADS + pass_index * 16u + i % 8u * 2u;
    let most = vec4f(65504.0);
    let low = clamp(q[at] * scale, -most, most);
    let high = clamp(q[at + 1u] * scale, -most, most);
    scores[i / 8u * SCORE_STRIDE + i % 8u] = vec4u(
      pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
  }
}

// Where this lane's eights of the tile from `first` on lie in the caches; past the end, the last key again.
fn find_octs(run: Run, first: u32, end: u32, lane: u32) -> array<u32, LOADS> {
  var places: array<u32, LOADS>;
  for (var i = 0u; i < LOADS; i++) {
    let index = lane + i * LANES;
    let position = min(first + index / OCTS, end - 1u);
    places[i] = kv_row(run.sequence, position, run.kv_head) / 2u + index % OCTS;
  }
  return places;
}

// The scores of half a row become weights.
fn weigh(before: Row, row_index: u32, half: u32, first: u32, is_masked: bool) -> Row {
  var row = before;
  var quads: array<vec4f, LANE_QUADS>;
  let begin = row_index * SCORE_STRIDE + half * LANE_QUADS;
  for (var i = 0u; i < LANE_QUADS; i += 2u) { // the halves take turns, against bank conflicts
    let a = bitcast<vec4f>(scores[begin + i + half]);
    let b = bitcast<vec4f>(scores[begin + i + 1u - half]);
    quads[i] = select(a, b, half == 1u);
    quads[i + 1u] = select(b, a, half == 1u);
  }
  if (is_masked) {
    for (var i = 0u; i < LANE_QUADS; i++) {
      let key = first + (half * LANE_QUADS + i) * 4u + vec4u(0u, 1u, 2u, 3u);
      let is_seen = (key >= vec4u(row.begin)) & (key < vec4u(row.end));
      quads[i] = select(vec4f(NO_KEY), quads[i], is_seen);
    }
  }
  var tops = quads[0];
  for (var i = 1u; i < LANE_QUADS; i++) { tops = max(tops, quads[i]); }
  var top = max(max(tops.x, tops.y), max(tops.z, tops.w));
  top = max(top, subgroupShuffleXor(top, 1u));
  row.shrink = 1.0;
  if (top > row.top + HEADROOM) {
    row.shrink = exp2(row.top - top);
    row.top = top;
  }
  var sums = vec4f();
  for (var i = 0u; i < LANE_QUADS; i += 2u) {
    let low = exp2(quads[i] - row.top);
    let high = exp2(quads[i + 1u] - row.top);
    sums += low + high;
    weights[row_index * WEIGHT_STRIDE + (half * LANE_QUADS + i) / 2u] = vec4u(
      pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
  }
  row.sum = row.sum * row.shrink + (sums.x + sums.y) + (sums.z + sums.w);
  return row;
}

// Multiplies half a row of `scores`, holding sums of values.
fn scale_sums(row_index: u32, half: u32, factor: f32) {
  let begin = row_index * SCORE_STRIDE + half * LANE_QUADS;
  for (var i = 0u; i < LANE_QUADS; i++) {
    scores[begin + i] = bitcast<vec4u>(bitcast<vec4f>(scores[begin + i]) * factor);
  }
}

// Writes columns of the sums of values, which `scores` holds, to `out`.
fn write_sums(run: Run, pass_index: u32, lane: u32) {
  for (var i = lane; i < ROWS * LANE_QUADS * 2u; i += LANES) {
    let row = i / (LANE_QUADS * 2u);
    let quad = i % (LANE_QUADS * 2u);
    let unit = run.first_unit + row / 16u;
    if (is_live(run, unit) && row % 16u < prefill_tiles[unit / GROUP].z) {
      out[query_row(run, row) * QUADS + pass_index * LANE_QUADS * 2u + quad] =
        bitcast<vec4f>(scores[row * SCORE_STRIDE + quad]);
    }
  }
}

fn attend(run: Run, lane: u32, subgroup: u32, sub_lane: u32) {
  let half = sub_lane % 2u;
  let first_row = subgroup * UNITS * 16u; // of this subgroup
  var queries: array<Left, UNITS * DEPTH>;
  for (var pass_index = 0u; pass_index < HEAD_DIM / 64u; pass_index++) {
    stage_queries(run, pass_index, lane);
    workgroupBarrier();
    for (var unit = 0u; unit < UNITS; unit++) {
      for (var d = 0u; d < 4u; d++) {
        queries[unit * DEPTH + pass_index * 4u + d] = subgroupMatrixLoad<Left, row_major>(
          &scores, (first_row + unit * 16u) * SCORE_STRIDE + d * 2u, SCORE_STRIDE);
      }
    }
    workgroupBarrier();
  }
  var sums: array<Sums, UNITS * DEPTH>;
  var rows: array<Row, UNITS>;
  var sights: array<Sight, UNITS>;
  for (var unit = 0u; unit < UNITS; unit++) {
    rows[unit] = row_of(run, first_row + unit * 16u + sub_lane / 2u);
    sights[unit] = sight_of(run, run.first_unit + subgroup * UNITS + unit);
  }

  let begin = window_begin(positions[prefill_tiles[run.first_tile].y]);
  let end = last_position(prefill_tiles[run.end_tile - 1u]) + 1u;
  var places = find_octs(run, begin, end, lane);
  for (var i = 0u; i < LOADS; i++) {
    let index = lane + i * LANES;
    keys[index / OCTS * STRIDE + index % OCTS] = to_halves(load_key(places[i]));
  }
  var next_places = find_octs(run, begin + TILE_K, end, lane);
  workgroupBarrier();
  for (var first = begin; first < end; first += TILE_K) {
    // on their way while the scores are computed: this tile's values and the next one's keys
    var value_octs: array<KvOct, LOADS>;
    var key_octs: array<KvOct, LOADS>;
    for (var i = 0u; i < LOADS; i++) { value_octs[i] = load_value(places[i]); }
    for (var i = 0u; i < LOADS; i++) { key_octs[i] = load_key(next_places[i]); }
    places = next_places;
    next_places = find_octs(run, first + 2u * TILE_K, end, lane);

    var is_active = false;
    for (var unit = 0u; unit < UNITS; unit++) {
      is_active |= first < sights[unit].end && first + TILE_K > sights[unit].begin;
    }
    if (is_active) {
      for (var block = 0u; block < KEY_BLOCKS; block++) {
        var products: array<Sums, UNITS>;
        for (var d = 0u; d < DEPTH; d++) {
          let key = subgroupMatrixLoad<Right, col_major>(&keys, block * 16u * STRIDE + d * 2u, STRIDE);
          for (var unit = 0u; unit < UNITS; unit++) {
            products[unit] = subgroupMatrixMultiplyAccumulate(queries[unit * DEPTH + d], key, products[unit]);
          }
        }
        for (var unit = 0u; unit < UNITS; unit++) {
          subgroupMatrixStore<row_major>(
            &scores, (first_row + unit * 16u) * SCORE_STRIDE + block * 4u, products[unit], SCORE_STRIDE);
        }
      }
    }
    workgroupBarrier();
    var has_grown = false;
    if (is_active) {
      for (var unit = 0u; unit < UNITS; unit++) {
        let is_masked = first < sights[unit].all_begin || first + TILE_K > sights[unit].all_end;
        let old_sum = rows[unit].sum;
        rows[unit] = weigh(rows[unit], first_row + unit * 16u + sub_lane / 2u, half, first, is_masked);
        has_grown |= rows[unit].shrink != 1.0 && old_sum > 0.0;
      }
      has_grown = subgroupAny(has_grown);
    } else {
      for (var unit = 0u; unit < UNITS; unit++) { rows[unit].shrink = 1.0; }
    }
    if (sub_lane == 0u) { growths[subgroup] = select(0u, 1u, has_grown); }
    for (var i = 0u; i < LOADS; i++) {
      let index = lane + i * LANES;
      values[index / OCTS * STRIDE + index % OCTS] = to_halves(value_octs[i]);
      keys[index / OCTS * STRIDE + index % OCTS] = to_halves(key_octs[i]);
    }
    let grown = workgroupUniformLoad(&growths);
    var any_grown = 0u;
    for (var i = 0u; i < SUBGROUPS; i++) { any_grown |= grown[i]; }
    if (any_grown != 0u) {
      for (var block = 0u; block < DEPTH; block += KEY_BLOCKS) {
        for (var unit = 0u; unit < UNITS; unit++) {
          for (var d = 0u; d < KEY_BLOCKS; d++) {
            subgroupMatrixStore<row_major>(
              &scores, (first_row + unit * 16u) * SCORE_STRIDE + d * 4u, sums[unit * DEPTH + block + d], SCORE_STRIDE);
          }
        }
        workgroupBarrier();
        for (var unit = 0u; unit < UNITS; unit++) {
          scale_sums(first_row + unit * 16u + sub_lane / 2u, half, rows[unit].shrink);
        }
        workgroupBarrier();
        for (var unit = 0u; unit < UNITS; unit++) {
          for (var d = 0u; d < KEY_BLOCKS; d++) {
            sums[unit * DEPTH + block + d] = subgroupMatrixLoad<Sums, row_major>(
              &scores, (first_row + unit * 16u) * SCORE_STRIDE + d * 4u, SCORE_STRIDE);
          }
        }
      }
    }
    if (is_active) {
      for (var block = 0u; block < KEY_BLOCKS; block++) {
        var left: array<Left, UNITS>;
        for (var unit = 0u; unit < UNITS; unit++) {
          left[unit] = subgroupMatrixLoad<Left, row_major>(
            &weights, (first_row + unit * 16u) * WEIGHT_STRIDE + block * 2u, WEIGHT_STRIDE);
        }
        for (var d = 0u; d < DEPTH; d++) {
          let value = subgroupMatrixLoad<Right, row_major>(&values, block * 16u * STRIDE + d * 2u, STRIDE);
          for (var unit = 0u; unit < UNITS; unit++) {
            sums[unit * DEPTH + d] = subgroupMatrixMultiplyAccumulate(left[unit], value, sums[unit * DEPTH + d]);
          }
        }
      }
    }
  }

  for (var block = 0u; block < DEPTH; block += KEY_BLOCKS) {
    workgroupBarrier();
    for (var unit = 0u; unit < UNITS; unit++) {
      for (var d = 0u; d < KEY_BLOCKS; d++) {
        subgroupMatrixStore<row_major>(
          &scores, (first_row + unit * 16u) * SCORE_STRIDE + d * 4u, sums[unit * DEPTH + block + d], SCORE_STRIDE);
      }
    }
    workgroupBarrier();
    for (var unit = 0u; unit < UNITS; unit++) {
      let sum = rows[unit].sum + subgroupShuffleXor(rows[unit].sum, 1u);
      scale_sums(first_row + unit * 16u + sub_lane / 2u, half, 1.0 / sum);
    }
    workgroupBarrier();
    write_sums(run, block / KEY_BLOCKS, lane);
  }
  workgroupBarrier(); // the next run's queries overwrite `scores`
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
  let first_unit = (num_groups.y - 1u - group.y) * SUBGROUPS * UNITS;
  let num_units = live.num_prefill_tiles * GROUP;
  let end_unit = min(first_unit + SUBGROUPS * UNITS, num_units);
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
