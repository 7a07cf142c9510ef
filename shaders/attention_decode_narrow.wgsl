// attention_decode_narrow: attention_decode for software adapters: the same results and partials
//
// A workgroup is one subgroup, so that its barriers cost little, and its lanes read neighbouring
// words: SwiftShader turns that into one vector load, and loads of vec4 into sixteen scalar ones.
// A lane holds every LANES-th word of the queries and of the values it sums; arrays are indexed by
// uniform values and the heads are a vector, because SwiftShader unrolls nothing.
//
// Shapes, dispatch, accuracy   as attention_decode
// Prelude   const QUADS = head_dim / 4, GROUP = num_heads / num_kv_heads, HEADS = query heads a
//           workgroup (1 to 4), TILES = ceil(GROUP / HEADS), LANES, CHUNK = positions a turn
// Includes  lib/live.wgsl, lib/heads_one.wgsl or lib/heads_many.wgsl, lib/kv_word_f32.wgsl or
//           lib/kv_word_f16.wgsl, lib/paged_kv.wgsl
const WORDS = QUADS * 4u / WORD_SIZE;          // of one head's row
const TURNS = (WORDS + LANES - 1u) / LANES;    // words of a lane

struct Params {
  num_heads: u32, num_kv_heads: u32, max_blocks: u32, sliding_window: u32, scale: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> key_cache: array<KvWord>;
@group(0) @binding(3) var<storage, read> value_cache: array<KvWord>;
@group(0) @binding(4) var<storage, read> positions: array<u32>;
@group(0) @binding(5) var<storage, read> sequence_index: array<u32>;
@group(0) @binding(6) var<storage, read> block_tables: array<u32>;
@group(0) @binding(7) var<storage, read_write> partials: array<f32>;
@group(0) @binding(8) var<storage, read_write> out: array<f32>;

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
  for (var i = 0u; i < TURNS * WORD_SIZE; i++) {
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

fn word_of(row: u32, turn: u32, lane: u32) -> u32 {
  return row + min(turn * LANES + lane, WORDS - 1u);
}

// Scores of `count` positions from `first` on into `weights`; returns the maximum.
fn score_chunk(task: Task, first: u32, count: u32, lane: u32) -> Heads {
  for (var i = lane; i < count; i += LANES) {
    rows[i] = kv_row(task.sequence, first + i, task.kv_head) * (4u / WORD_SIZE);
  }
  workgroupBarrier();
  for (var i = 0u; i < count; i++) {
    var dots = Heads();
    for (var turn = 0u; turn < TURNS; turn++) {
      dots += score_word(word_of(rows[i], turn, lane), turn);
    }
    lane_dots[i * LANES + lane] = dots;
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
    for (var i = 0u; i < TURNS * WORD_SIZE; i++) {
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
    for (var i = 0u; i < TURNS * WORD_SIZE; i++) { values[i] *= shrink; }
    sum *= shrink;
    for (var i = lane; i < count; i += LANES) {
      let weight = exp(weights[i] - top);
      weights[i] = weight;
      sum += weight;
    }
    workgroupBarrier();
    for (var i = 0u; i < count; i++) {
      for (var turn = 0u; turn < TURNS; turn++) {
        add_word(word_of(rows[i], turn, lane), turn, weights[i]);
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
