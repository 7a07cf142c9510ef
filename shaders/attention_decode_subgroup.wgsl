// attention_decode_subgroup: attention_decode for adapters with subgroups: the same partials
//
// OCTS neighbouring lanes hold a key, eight elements each, so that a workgroup reads whole rows of
// the cache and every lane has work from the first LANES / OCTS positions on. They add up their
// dot products by shuffles. Each such part keeps a softmax of its own over every PARTS-th position;
// the parts are merged at the end. The keys and values of the next turn are on their way meanwhile.
//
// Shapes, dispatch   as attention_decode
// Accuracy  f32 online softmax; rtol 2e-5, atol 2e-6 against test/oracles/attention.ts
// Source    Dao et al. 2023, Flash-Decoding
// Prelude   const QUADS = head_dim / 4, GROUP = num_heads / num_kv_heads, HEADS = query heads a
//           workgroup, TILES = ceil(GROUP / HEADS), LANES (a multiple of the subgroup size and of
//           QUADS / 2), SUBGROUPS = subgroups of a workgroup at most
// Includes  lib/live.wgsl, lib/kv_oct_f32.wgsl or lib/kv_oct_f16.wgsl, lib/paged_kv.wgsl
// Needs     QUADS / 2 a power of two, no larger than a subgroup
const OCTS = QUADS / 2u;
const PARTS = LANES / OCTS;
const TURN = 4u;       // positions of a part between two updates of its softmax
const FLOOR = -1e20;   // below every score and far above NO_KEY: weights of masked keys are 0
const LN_2 = 0.6931471805599453;

struct Params {
  num_heads: u32, num_kv_heads: u32, max_blocks: u32, sliding_window: u32, scale: f32, num_quads: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4f>;
@group(0) @binding(2) var<storage, read> key_cache: array<KvOct>;
@group(0) @binding(3) var<storage, read> value_cache: array<KvOct>;
@group(0) @binding(4) var<storage, read> positions: array<u32>;
@group(0) @binding(5) var<storage, read> sequence_index: array<u32>;
@group(0) @binding(6) var<storage, read> block_tables: array<u32>;
@group(0) @binding(7) var<storage, read_write> partials: array<vec4f>;
@group(0) @binding(8) var<storage, read_write> out: array<vec4f>;

var<workgroup> subgroup_values: array<vec4f, SUBGROUPS * HEADS * QUADS>;
var<workgroup> subgroup_stats: array<vec2f, SUBGROUPS * HEADS>; // top, sum

// What a workgroup works on; the same in all its lanes.
struct Task {
  token: u32, split: u32, sequence: u32, kv_head: u32, first_head: u32, num_heads: u32, begin: u32, end: u32,
}

// A lane's eight elements of the keys and values of TURN positions.
struct Turn { keys: array<KvOct, TURN>, values: array<KvOct, TURN> }

fn load_turn(task: Task, first: u32, oct: u32) -> Turn {
  var turn: Turn;
  var places: array<u32, TURN>;
  for (var i = 0u; i < TURN; i++) { // past the end: the last key again, masked below
    let position = min(first + i * PARTS, task.end - 1u);
    places[i] = kv_row(task.sequence, position, task.kv_head) / 2u + oct;
  }
  for (var i = 0u; i < TURN; i++) { turn.keys[i] = load_key(places[i]); }
  for (var i = 0u; i < TURN; i++) { turn.values[i] = load_value(places[i]); }
  return turn;
}

// A lane's part of the softmax and of the weighted values: two quads a head.
struct Sums { tops: array<f32, HEADS>, sums: array<f32, HEADS>, values: array<vec4f, 2 * HEADS> }

// Adds the positions first, first + PARTS, ... of a part.
fn add_turn(
  before: Sums, turn: Turn, queries: array<vec4f, 2 * HEADS>, first: u32, end: u32,
) -> Sums {
  var state = before;
  var scores: array<f32, TURN * HEADS>;
  for (var i = 0u; i < TURN; i++) {
    let low = low_quad(turn.keys[i]);
    let high = high_quad(turn.keys[i]);
    for (var head = 0u; head < HEADS; head++) {
      scores[i * HEADS + head] = dot(queries[2u * head], low) + dot(queries[2u * head + 1u], high);
    }
  }
  for (var step = 1u; step < OCTS; step *= 2u) {
    for (var i = 0u; i < TURN * HEADS; i++) { scores[i] += subgroupShuffleXor(scores[i], step); }
  }
  for (var head = 0u; head < HEADS; head++) {
    var top = state.tops[head];
    for (var i = 0u; i < TURN; i++) {
      if (first + i * PARTS >= end) { scores[i * HEADS + head] = NO_KEY; }
      top = max(top, scores[i * HEADS + head]);
    }
    let shrink = exp2(state.tops[head] - top);
    state.tops[head] = top;
    state.sums[head] *= shrink;
    state.values[2u * head] *= shrink;
    state.values[2u * head + 1u] *= shrink;
    for (var i = 0u; i < TURN; i++) {
      scores[i * HEADS + head] = exp2(scores[i * HEADS + head] - top);
      state.sums[head] += scores[i * HEADS + head];
    }
  }
  for (var i = 0u; i < TURN; i++) {
    let low = low_quad(turn.values[i]);
    let high = high_quad(turn.values[i]);
    for (var head = 0u; head < HEADS; head++) {
      state.values[2u * head] += scores[i * HEADS + head] * low;
      state.values[2u * head + 1u] += scores[i * HEADS + head] * high;
    }
  }
  return state;
}

// The parts of each subgroup into one, in workgroup memory.
fn merge_subgroup(state: Sums, subgroup: u32, sub_lane: u32, subgroup_size: u32) {
  for (var head = 0u; head < HEADS; head++) {
    let top = subgroupMax(state.tops[head]);
    let shrink = exp2(state.tops[head] - top);
    var sum = state.sums[head] * shrink;
    var low = state.values[2u * head] * shrink;
    var high = state.values[2u * head + 1u] * shrink;
    for (var step = OCTS; step < subgroup_size; step *= 2u) {
      sum += subgroupShuffleXor(sum, step);
      low += subgroupShuffleXor(low, step);
      high += subgroupShuffleXor(high, step);
    }
    if (sub_lane < OCTS) {
      let at = (subgroup * HEADS + head) * QUADS + 2u * sub_lane;
      subgroup_values[at] = low;
      subgroup_values[at + 1u] = high;
    }
    if (sub_lane == 0u) { subgroup_stats[subgroup * HEADS + head] = vec2f(top, sum); }
  }
}

// The subgroups into the result: a lane a quad of a head.
fn write_results(task: Task, num_subgroups: u32, lane: u32) {
  for (var i = lane; i < task.num_heads * QUADS; i += LANES) {
    let head = i / QUADS;
    var top = FLOOR;
    for (var other = 0u; other < num_subgroups; other++) {
      top = max(top, subgroup_stats[other * HEADS + head].x);
    }
    var sum = 0.0;
    var value = vec4f();
    for (var other = 0u; other < num_subgroups; other++) {
      let stats = subgroup_stats[other * HEADS + head];
      let shrink = exp2(stats.x - top);
      sum += stats.y * shrink;
      value += subgroup_values[(other * HEADS + head) * QUADS + i % QUADS] * shrink;
    }
    if (live.num_splits == 1u) {
      out[(task.token * params.num_heads + task.first_head + head) * QUADS + i % QUADS] = value / sum;
    } else {
      let row = partial_row(task, head);
      partials[row + i % QUADS] = value;
      if (i % QUADS == 0u) { partials[row + QUADS] = vec4f(top * LN_2, sum, 0.0, 0.0); }
    }
  }
}

fn partial_row(task: Task, head: u32) -> u32 {
  let row = (task.token * live.num_splits + task.split) * params.num_heads + task.first_head + head;
  return row * (QUADS + 1u);
}

fn task_of(group: vec3u) -> Task {
  let token = group.z;
  let kv_head = group.y / TILES;
  let tile = group.y % TILES * HEADS;
  let position = positions[token];
  return Task(
    token, group.x, sequence_index[token], kv_head, kv_head * GROUP + tile, min(HEADS, GROUP - tile),
    max(group.x * live.split_size, window_begin(position)),
    min((group.x + 1u) * live.split_size, position + 1u));
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) sub_lane: u32,
  @builtin(subgroup_size) subgroup_size: u32,
) {
  let task = task_of(group);
  let lane = subgroup * subgroup_size + sub_lane;
  if (task.begin >= task.end) {
    for (var head = lane; head < task.num_heads; head += LANES) {
      partials[partial_row(task, head) + QUADS] = vec4f(NO_KEY, 0.0, 0.0, 0.0);
    }
    return;
  }
  let oct = lane % OCTS;
  var queries: array<vec4f, 2 * HEADS>;
  for (var head = 0u; head < HEADS; head++) { // a short last tile repeats a head
    let row = task.token * params.num_heads + task.first_head + min(head, task.num_heads - 1u);
    queries[2u * head] = q[row * QUADS + 2u * oct] * (params.scale / LN_2);
    queries[2u * head + 1u] = q[row * QUADS + 2u * oct + 1u] * (params.scale / LN_2);
  }
  var state: Sums;
  for (var head = 0u; head < HEADS; head++) { state.tops[head] = FLOOR; }
  var first = task.begin + lane / OCTS;
  var turn = load_turn(task, first, oct);
  for (var base = task.begin; base < task.end; base += PARTS * TURN) {
    var next = turn;
    if (base + PARTS * TURN < task.end) { next = load_turn(task, first + PARTS * TURN, oct); }
    state = add_turn(state, turn, queries, first, task.end);
    turn = next;
    first += PARTS * TURN;
  }
  merge_subgroup(state, subgroup, sub_lane, subgroup_size);
  workgroupBarrier();
  write_results(task, LANES / subgroup_size, lane);
}
