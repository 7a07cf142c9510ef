// attention_decode_narrow: attention_decode for software adapters: the same results and partials
//
// A workgroup is one subgroup, so that its barriers cost little, and its lanes read neighbouring
// words: SwiftShader turns that into one vector load, and loads of vec4 into sixteen scalar ones.
// A lane holds every LANES-th word of the queries and of the values it sums. SwiftShader unrolls
// nothing and pays for each access to an array, so the heads are a vector and keys go by fours.
//
// Shapes, dispatch, accuracy   as attention_decode
// Prelude   const QUADS = head_dim / 4, GROUP = num_heads / num_kv_heads, HEADS = query heads a
//           workgroup (1 to 4), TILES = ceil(GROUP / HEADS), LANES, CHUNK = positions a turn,
//           a multiple of 4
// Includes  lib/live.wgsl, lib/heads_one.wgsl or lib/heads_many.wgsl, lib/kv_word_f32.wgsl or
//           lib/kv_word_f16.wgsl, lib/paged_kv.wgsl
const WORDS = QUADS * 4u / WORD_SIZE;          // of one head's row
const TURNS = (WORDS + LANES - 1u) / LANES;    // words of a lane

struct Params {
  num_heads: u32, num_kv_heads: u32, max_blocks: u32, sliding_window: u32, scale: f32, num_quads: u32,
}
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> q: array<f32>;
@group(1) @binding(2) var<storage, read> key_cache: array<KvWord>;
@group(1) @binding(3) var<storage, read> value_cache: array<KvWord>;
@group(1) @binding(4) var<storage, read> positions: array<u32>;
@group(1) @binding(5) var<storage, read> sequence_index: array<u32>;
@group(1) @binding(6) var<storage, read> block_tables: array<u32>;
@group(1) @binding(7) var<storage, read_write> partials: array<f32>;
@group(1) @binding(8) var<storage, read_write> out: array<f32>;

struct Scores { a: Heads, b: Heads, c: Heads, d: Heads } // of four keys

var<private> queries: array<Heads, TURNS * WORD_SIZE>;
var<private> values: array<Heads, TURNS * WORD_SIZE>;
var<workgroup> rows: array<u32, CHUNK>;              // the first word of each key of the chunk
var<workgroup> lane_dots: array<Heads, CHUNK * LANES>;
var<workgroup> weights: array<Heads, CHUNK>;
var<workgroup> lane_stats: array<Heads, LANES>;

// What a workgroup works on; the same in all its lanes.
struct Task { token: u32, split: u32, sequence: u32, kv_head: u32, first_head: u32, num_heads: u32 }

// The lane's words of the queries, scaled. A lane past the last word holds zeros, and reads the
// last word of the cache rows with them.
fn load_queries(task: Task, lane: u32) {
  for (var i = 0u; i < num_turns() * WORD_SIZE; i++) {
    let element = ((i / WORD_SIZE) * LANES + lane) * WORD_SIZE + i % WORD_SIZE;
    var query = Heads();
    for (var head = 0u; head < task.num_heads; head++) {
      let row = (task.token * params.num_heads + task.first_head + head) * QUADS * 4u;
      query = with_head(query, head, q[row + min(element, QUADS * 4u - 1u)] * params.scale);
    }
    queries[i] = select(Heads(), query, element < QUADS * 4u);
    values[i] = Heads();
  }
}

// TURNS, but not a constant: lavapipe would unroll every loop over it and compile for seconds.
fn num_turns() -> u32 { return (params.num_quads * 4u / WORD_SIZE + LANES - 1u) / LANES; }

// The lane's words of four rows.
fn words_of(i: u32) -> vec4u { return vec4u(rows[i], rows[i + 1u], rows[i + 2u], rows[i + 3u]); }
fn word_offset(turn: u32, lane: u32) -> u32 { return min(turn * LANES + lane, WORDS - 1u); }

// Scores of `count` positions from `first` on into `weights`; returns the maximum. The last key
// fills up the last four.
fn score_chunk(task: Task, first: u32, count: u32, lane: u32) -> Heads {
  let padded = (count + 3u) / 4u * 4u;
  for (var i = lane; i < padded; i += LANES) {
    let position = first + min(i, count - 1u);
    rows[i] = kv_row(task.sequence, position, task.kv_head) * (4u / WORD_SIZE);
  }
  workgroupBarrier();
  for (var i = 0u; i < padded; i += 4u) {
    let words = words_of(i);
    var scores = Scores(Heads(), Heads(), Heads(), Heads());
    for (var turn = 0u; turn < num_turns(); turn++) {
      scores = add_scores(words + word_offset(turn, lane), turn, scores);
    }
    lane_dots[i * LANES + lane] = scores.a;
    lane_dots[(i + 1u) * LANES + lane] = scores.b;
    lane_dots[(i + 2u) * LANES + lane] = scores.c;
    lane_dots[(i + 3u) * LANES + lane] = scores.d;
  }
  workgroupBarrier();
  var top = Heads(NO_KEY);
  for (var i = lane; i < count; i += LANES) {
    var score = Heads();
    for (var other = 0u; other < LANES; other++) { score += lane_dots[i * LANES + other]; }
    weights[i] = score;
    top = max(top, score);
  }
  lane_stats[lane] = top;
  workgroupBarrier();
  for (var other = 0u; other < LANES; other++) { top = max(top, lane_stats[other]); }
  return top;
}

fn write_empty(task: Task, lane: u32) {
  for (var head = lane; head < task.num_heads; head += LANES) {
    let row = partial_row(task, head);
    partials[row + QUADS * 4u] = NO_KEY;
    partials[row + QUADS * 4u + 1u] = 0.0;
  }
}

fn partial_row(task: Task, head: u32) -> u32 {
  let row = (task.token * live.num_splits + task.split) * params.num_heads + task.first_head + head;
  return row * (QUADS + 1u) * 4u;
}

fn write_results(task: Task, top: Heads, sum: Heads, lane: u32) {
  for (var head = 0u; head < task.num_heads; head++) {
    let is_last = live.num_splits == 1u;
    let scale = select(1.0, 1.0 / head_at(sum, head), is_last);
    let row = partial_row(task, head);
    let out_row = (task.token * params.num_heads + task.first_head + head) * QUADS * 4u;
    for (var i = 0u; i < num_turns() * WORD_SIZE; i++) {
      let element = ((i / WORD_SIZE) * LANES + lane) * WORD_SIZE + i % WORD_SIZE;
      if (element >= QUADS * 4u) { continue; }
      let value = head_at(values[i], head) * scale;
      if (is_last) { out[out_row + element] = value; } else { partials[row + element] = value; }
    }
    if (!is_last && lane == 0u) {
      partials[row + QUADS * 4u] = head_at(top, head);
      partials[row + QUADS * 4u + 1u] = head_at(sum, head);
    }
  }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let token = group.z;
  let kv_head = group.y / TILES;
  let tile = group.y % TILES * HEADS;
  let task = Task(
    token, group.x, sequence_index[token], kv_head, kv_head * GROUP + tile, min(HEADS, GROUP - tile));
  let position = positions[token];
  let begin = max(group.x * live.split_size, window_begin(position));
  let end = min((group.x + 1u) * live.split_size, position + 1u);
  if (begin >= end) {
    write_empty(task, lane);
    return;
  }
  load_queries(task, lane);
  var top = Heads(NO_KEY);
  var sum = Heads();
  for (var first = begin; first < end; first += CHUNK) {
    let count = min(CHUNK, end - first);
    let new_top = max(top, score_chunk(task, first, count, lane));
    let shrink = exp(top - new_top);
    top = new_top;
    for (var i = 0u; i < num_turns() * WORD_SIZE; i++) { values[i] *= shrink; }
    sum *= shrink;
    for (var i = lane; i < (count + 3u) / 4u * 4u; i += LANES) {
      var weight = Heads();
      if (i < count) { weight = exp(weights[i] - top); }
      weights[i] = weight;
      sum += weight;
    }
    workgroupBarrier();
    for (var i = 0u; i < count; i += 4u) {
      let words = words_of(i);
      let four = Scores(weights[i], weights[i + 1u], weights[i + 2u], weights[i + 3u]);
      for (var turn = 0u; turn < num_turns(); turn++) {
        add_values(words + word_offset(turn, lane), turn, four);
      }
    }
    workgroupBarrier();
  }
  lane_stats[lane] = sum;
  workgroupBarrier();
  sum = Heads();
  for (var other = 0u; other < LANES; other++) { sum += lane_stats[other]; }
  write_results(task, top, sum, lane);
}
