// attention_decode_subgroup: attention_decode for adapters with subgroups: the same partials
//
// OCTS neighbouring lanes hold a key, eight elements each, so that a workgroup reads whole rows of
// the cache and every lane has work from the first LANES / OCTS positions on. They add up their
// dot products by shuffles; scores, not bytes, are what takes its time. Each such part keeps a softmax of its own over every PARTS-th position;
// the parts are merged at the end. Other workgroups hide the latency of its loads: loading a turn
// ahead was slower.
// Drivers keep arrays in memory where they do not unroll the loops over them, so there are none: the
// heads are one vector, and a part takes four positions a turn, by name.
//
// Shapes, dispatch   as attention_decode
// Accuracy  f32 online softmax; rtol 2e-5, atol 2e-6 against test/oracles/attention.ts
// Source    Dao et al. 2023, Flash-Decoding
// Prelude   const QUADS = head_dim / 4, GROUP = num_heads / num_kv_heads, HEADS = query heads a
//           workgroup (1 to 4), TILES = ceil(GROUP / HEADS), LANES (a multiple of the subgroup size
//           and of QUADS / 2), SUBGROUPS = subgroups of a workgroup at most, SKIPS = subgroups without
//           positions in the last turn leave it out; then subgroup_uniformity must be off
// Includes  lib/live.wgsl, lib/heads_one.wgsl or lib/heads_many.wgsl, lib/kv_oct_f32.wgsl or
//           lib/kv_oct_f16.wgsl, lib/paged_kv.wgsl, lib/attention_out.wgsl
// Needs     QUADS / 2 a power of two from 4 up, no larger than a subgroup
const OCTS = QUADS / 2u;
const PARTS = LANES / OCTS;
const TURN = 4u * PARTS; // positions between two updates of the softmax
const FLOOR = -1e20;     // below every score and far above NO_KEY: weights of masked keys are 0
const LN_2 = 0.6931471805599453;

struct Params {
  num_heads: u32, num_kv_heads: u32, max_blocks: u32, sliding_window: u32, scale: f32, num_quads: u32,
}
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> q: array<vec4f>;
@group(1) @binding(2) var<storage, read> key_cache: array<KvOct>;
@group(1) @binding(3) var<storage, read> value_cache: array<KvOct>;
@group(1) @binding(4) var<storage, read> positions: array<u32>;
@group(1) @binding(5) var<storage, read> sequence_index: array<u32>;
@group(1) @binding(6) var<storage, read> block_tables: array<u32>;
@group(1) @binding(7) var<storage, read_write> partials: array<f32>;
@group(1) @binding(8) var<storage, read_write> out: array<Quad>;

var<workgroup> subgroup_values: array<Heads, SUBGROUPS * QUADS * 4u>;
var<workgroup> subgroup_tops: array<Heads, SUBGROUPS>;
var<workgroup> subgroup_sums: array<Heads, SUBGROUPS>;

// What a workgroup works on; the same in all its lanes.
struct Task {
  token: u32, split: u32, sequence: u32, kv_head: u32, first_head: u32, num_heads: u32, begin: u32, end: u32,
}

// A lane's eight elements of the queries, or of the weighted values, of all heads.
struct Octs { a: Heads, b: Heads, c: Heads, d: Heads, e: Heads, f: Heads, g: Heads, h: Heads }

// A lane's elements of the keys and values of four positions, PARTS apart.
struct Turn {
  key_a: KvOct, key_b: KvOct, key_c: KvOct, key_d: KvOct,
  value_a: KvOct, value_b: KvOct, value_c: KvOct, value_d: KvOct,
}

// `sum` is of the positions that this lane scored: a quarter of its part's.
struct Softmax { top: Heads, sum: Heads, values: Octs }

// A lane's eight elements of the queries, scaled so that weights are powers of two.
fn load_queries(task: Task, oct: u32) -> Octs {
  var queries = Octs();
  for (var head = 0u; head < HEADS; head++) { // a short last tile repeats a head
    let row = task.token * params.num_heads + task.first_head + min(head, task.num_heads - 1u);
    let low = q[row * QUADS + 2u * oct] * (params.scale / LN_2);
    let high = q[row * QUADS + 2u * oct + 1u] * (params.scale / LN_2);
    queries.a = with_head(queries.a, head, low.x);
    queries.b = with_head(queries.b, head, low.y);
    queries.c = with_head(queries.c, head, low.z);
    queries.d = with_head(queries.d, head, low.w);
    queries.e = with_head(queries.e, head, high.x);
    queries.f = with_head(queries.f, head, high.y);
    queries.g = with_head(queries.g, head, high.z);
    queries.h = with_head(queries.h, head, high.w);
  }
  return queries;
}

// Past the end: the last key again, masked below.
fn place_of(task: Task, position: u32, oct: u32) -> u32 {
  return kv_row(task.sequence, min(position, task.end - 1u), task.kv_head) / 2u + oct;
}

// Where the four positions of a turn lie; looked up a turn ahead.
fn places_of(task: Task, first: u32, oct: u32) -> vec4u {
  return vec4u(
    place_of(task, first, oct), place_of(task, first + PARTS, oct),
    place_of(task, first + 2u * PARTS, oct), place_of(task, first + 3u * PARTS, oct));
}

fn load_turn(at: vec4u) -> Turn {
  return Turn(
    load_key(at.x), load_key(at.y), load_key(at.z), load_key(at.w),
    load_value(at.x), load_value(at.y), load_value(at.z), load_value(at.w));
}

// A lane's share of a score.
fn dot_octs(queries: Octs, key: KvOct) -> Heads {
  let low = low_quad(key);
  let high = high_quad(key);
  return queries.a * low.x + queries.b * low.y + queries.c * low.z + queries.d * low.w
    + queries.e * high.x + queries.f * high.y + queries.g * high.z + queries.h * high.w;
}

// The shares of four positions, added over the OCTS lanes of a key. Each lane gets one of the sums,
// that of position_of(sub_lane): lanes that hand on half of what they hold add less than all adding all.
fn add_shares(a: Heads, b: Heads, c: Heads, d: Heads, sub_lane: u32) -> Heads {
  let is_odd = (sub_lane & 1u) != 0u;
  let is_upper = (sub_lane & 2u) != 0u;
  let ac = select(a, c, is_odd) + subgroupShuffleXor(select(c, a, is_odd), 1u);
  let bd = select(b, d, is_odd) + subgroupShuffleXor(select(d, b, is_odd), 1u);
  var sum = select(ac, bd, is_upper) + subgroupShuffleXor(select(bd, ac, is_upper), 2u);
  if (OCTS > 4u) { sum += subgroupShuffleXor(sum, 4u); }
  if (OCTS > 8u) { sum += subgroupShuffleXor(sum, 8u); }
  if (OCTS > 16u) { sum += subgroupShuffleXor(sum, 16u); }
  return sum;
}

// Which of a turn's four positions a lane scores.
fn position_of(sub_lane: u32) -> u32 { return (sub_lane & 1u) * 2u + ((sub_lane & 2u) >> 1u); }

fn scale_octs(octs: Octs, by: Heads) -> Octs {
  return Octs(
    octs.a * by, octs.b * by, octs.c * by, octs.d * by, octs.e * by, octs.f * by, octs.g * by, octs.h * by);
}

fn add_value(sums: Octs, value: KvOct, weight: Heads) -> Octs {
  let low = low_quad(value);
  let high = high_quad(value);
  return Octs(
    sums.a + low.x * weight, sums.b + low.y * weight, sums.c + low.z * weight, sums.d + low.w * weight,
    sums.e + high.x * weight, sums.f + high.y * weight, sums.g + high.z * weight, sums.h + high.w * weight);
}

// Adds the positions first, first + PARTS, ... of a part.
fn add_turn(
  before: Softmax, turn: Turn, queries: Octs, first: u32, end: u32, sub_lane: u32,
) -> Softmax {
  var score = add_shares(
    dot_octs(queries, turn.key_a), dot_octs(queries, turn.key_b),
    dot_octs(queries, turn.key_c), dot_octs(queries, turn.key_d), sub_lane);
  score = select(Heads(NO_KEY), score, first + position_of(sub_lane) * PARTS < end);
  var top = max(score, subgroupShuffleXor(score, 1u));
  top = max(before.top, max(top, subgroupShuffleXor(top, 2u)));
  let shrink = exp2(before.top - top);
  let weight = exp2(score - top);
  let base = sub_lane & ~3u; // of the lanes that scored positions a, c, b and d
  var values = scale_octs(before.values, shrink);
  values = add_value(values, turn.value_a, subgroupShuffle(weight, base));
  values = add_value(values, turn.value_b, subgroupShuffle(weight, base + 2u));
  values = add_value(values, turn.value_c, subgroupShuffle(weight, base + 1u));
  values = add_value(values, turn.value_d, subgroupShuffle(weight, base + 3u));
  return Softmax(top, before.sum * shrink + weight, values);
}

fn add_shuffled(octs: Octs, step: u32) -> Octs {
  return Octs(
    octs.a + subgroupShuffleXor(octs.a, step), octs.b + subgroupShuffleXor(octs.b, step),
    octs.c + subgroupShuffleXor(octs.c, step), octs.d + subgroupShuffleXor(octs.d, step),
    octs.e + subgroupShuffleXor(octs.e, step), octs.f + subgroupShuffleXor(octs.f, step),
    octs.g + subgroupShuffleXor(octs.g, step), octs.h + subgroupShuffleXor(octs.h, step));
}

// The parts of each subgroup into one, in workgroup memory.
fn merge_subgroup(state: Softmax, subgroup: u32, sub_lane: u32, subgroup_size: u32) {
  let top = subgroupMax(state.top);
  let shrink = exp2(state.top - top);
  var sum = state.sum * shrink;
  sum += subgroupShuffleXor(sum, 1u);
  sum += subgroupShuffleXor(sum, 2u);
  var values = scale_octs(state.values, shrink);
  for (var step = OCTS; step < subgroup_size; step *= 2u) {
    sum += subgroupShuffleXor(sum, step);
    values = add_shuffled(values, step);
  }
  if (sub_lane < OCTS) { // the first elements of all octs, then the second ones: lanes write side by side
    let at = subgroup * QUADS * 4u + sub_lane;
    subgroup_values[at] = values.a;
    subgroup_values[at + OCTS] = values.b;
    subgroup_values[at + 2u * OCTS] = values.c;
    subgroup_values[at + 3u * OCTS] = values.d;
    subgroup_values[at + 4u * OCTS] = values.e;
    subgroup_values[at + 5u * OCTS] = values.f;
    subgroup_values[at + 6u * OCTS] = values.g;
    subgroup_values[at + 7u * OCTS] = values.h;
  }
  if (sub_lane == 0u) {
    subgroup_tops[subgroup] = top;
    subgroup_sums[subgroup] = sum;
  }
}

// Where an element is in a subgroup's values, and which one is at a place; see merge_subgroup.
fn place_of_element(element: u32) -> u32 { return element % 8u * OCTS + element / 8u; }
fn element_at(place: u32) -> u32 { return place % OCTS * 8u + place / OCTS; }

// The subgroups into one element of a split's partials, or of the result, which then is in the first one's place.
fn write_element(task: Task, num_subgroups: u32, place: u32) {
  let element = element_at(place);
  var top = subgroup_tops[0];
  for (var other = 1u; other < num_subgroups; other++) { top = max(top, subgroup_tops[other]); }
  var sum = Heads();
  var value = Heads();
  for (var other = 0u; other < num_subgroups; other++) {
    let shrink = exp2(subgroup_tops[other] - top);
    sum += subgroup_sums[other] * shrink;
    value += subgroup_values[other * QUADS * 4u + place] * shrink;
  }
  if (live.num_splits == 1u) {
    subgroup_values[place] = value / sum;
    return;
  }
  for (var head = 0u; head < task.num_heads; head++) {
    let row = partial_row(task, head);
    partials[row + element] = head_at(value, head);
    if (element == 0u) {
      partials[row + QUADS * 4u] = head_at(top, head) * LN_2;
      partials[row + QUADS * 4u + 1u] = head_at(sum, head);
    }
  }
}

// The results of write_element, a quad a lane.
fn write_quads(task: Task, lane: u32) {
  for (var i = lane; i < task.num_heads * QUADS; i += LANES) {
    let head = i / QUADS;
    let quad = i % QUADS;
    var value: vec4f;
    for (var j = 0u; j < 4u; j++) {
      value[j] = head_at(subgroup_values[place_of_element(4u * quad + j)], head);
    }
    put_out(task.token, task.first_head + head, quad, value);
  }
}

fn partial_row(task: Task, head: u32) -> u32 {
  let row = (task.token * live.num_splits + task.split) * params.num_heads + task.first_head + head;
  return row * (QUADS + 1u) * 4u;
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
      partials[partial_row(task, head) + QUADS * 4u] = NO_KEY;
      partials[partial_row(task, head) + QUADS * 4u + 1u] = 0.0;
    }
    return;
  }
  let oct = lane % OCTS;
  var first = task.begin + lane / OCTS;
  let queries = load_queries(task, oct);
  var state = Softmax(Heads(FLOOR), Heads(), Octs());
  var places = places_of(task, first, oct);
  for (var base = task.begin; base < task.end; base += TURN) {
    if (SKIPS && base + subgroup * (subgroup_size / OCTS) >= task.end) { break; } // all its positions are past the end
    let turn = load_turn(places);
    places = places_of(task, first + TURN, oct);
    state = add_turn(state, turn, queries, first, task.end, sub_lane);
    first += TURN;
  }
  merge_subgroup(state, subgroup, sub_lane, subgroup_size);
  workgroupBarrier();
  for (var place = lane; place < QUADS * 4u; place += LANES) {
    write_element(task, LANES / subgroup_size, place);
  }
  if (live.num_splits > 1u) { return; }
  workgroupBarrier();
  write_quads(task, lane);
}
