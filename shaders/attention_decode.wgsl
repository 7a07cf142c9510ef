// attention_decode: attention of one token a sequence over one split of its context (split-K)
//   partial[t, s, h] = (sum_j e^(score_j - top) v[j], top, sum_j e^(score_j - top)),
//   score_j = scale * q[t, h] . k[j],  top = max_j score_j,  j over the positions of split s
//
// Shapes    q, out: [num_tokens, num_heads, head_dim] f32
//           key_cache, value_cache: [num_slots, num_kv_heads, head_dim] f32 or packed f16
//           partials: [num_decode_tokens * num_splits, num_heads, head_dim + 4] f32: the sum, top, the sum of e^
// Dispatch  (num_splits, num_kv_heads * TILES, num_decode_tokens): one workgroup reads each key and
//           value once for HEADS query heads of a KV head. With one split it writes `out` itself.
// Accuracy  f32 online softmax; rtol 2e-5, atol 2e-6 against test/oracles/attention.ts
// Source    Dao et al. 2023, Flash-Decoding; Milakov & Gimelshein 2018, arXiv:1805.02867
// Prelude   const QUADS = head_dim / 4, GROUP = num_heads / num_kv_heads, HEADS = query heads a
//           workgroup, TILES = ceil(GROUP / HEADS), LANES (a multiple of QUADS), CHUNK = positions a turn
// Includes  lib/live.wgsl, lib/kv_f32.wgsl or lib/kv_f16.wgsl, lib/paged_kv.wgsl, lib/attention_out.wgsl
const PARTS = LANES / QUADS; // lanes that share a quad of the values

struct Params {
  num_heads: u32, num_kv_heads: u32, max_blocks: u32, sliding_window: u32, scale: f32, num_quads: u32,
}
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> q: array<vec4f>;
@group(1) @binding(2) var<storage, read> key_cache: array<KvQuad>;
@group(1) @binding(3) var<storage, read> value_cache: array<KvQuad>;
@group(1) @binding(4) var<storage, read> positions: array<u32>;
@group(1) @binding(5) var<storage, read> sequence_index: array<u32>;
@group(1) @binding(6) var<storage, read> block_tables: array<u32>;
@group(1) @binding(7) var<storage, read_write> partials: array<vec4f>;
@group(1) @binding(8) var<storage, read_write> out: array<Quad>;

var<workgroup> queries: array<vec4f, HEADS * QUADS>;
var<workgroup> rows: array<u32, CHUNK>;             // where each key of the chunk lies
var<workgroup> weights: array<f32, HEADS * CHUNK>;  // scores, then e^(score - top)
var<workgroup> lane_tops: array<f32, HEADS * LANES>;
var<workgroup> lane_values: array<vec4f, LANES>;
var<workgroup> lane_sums: array<f32, LANES>;

// What a workgroup works on; the same in all its lanes.
struct Task { token: u32, sequence: u32, kv_head: u32, first_head: u32, num_heads: u32 }

fn load_queries(task: Task, lane: u32) {
  for (var i = lane; i < HEADS * QUADS; i += LANES) {
    let head = task.first_head + min(i / QUADS, task.num_heads - 1u); // a short last tile repeats a head
    queries[i] = q[(task.token * params.num_heads + head) * QUADS + i % QUADS] * params.scale;
  }
  workgroupBarrier();
}

// Scores of `count` positions from `first` on, a lane a position, and each head's maximum in
// lane_tops[head * LANES].
fn score_chunk(task: Task, first: u32, count: u32, lane: u32) {
  var tops: array<f32, HEADS>;
  for (var head = 0u; head < HEADS; head++) { tops[head] = NO_KEY; }
  for (var i = lane; i < count; i += LANES) {
    let row = kv_row(task.sequence, first + i, task.kv_head);
    rows[i] = row;
    var scores = array<f32, HEADS>();
    for (var quad = 0u; quad < QUADS; quad++) {
      let key = unpack_quad(key_cache[row + quad]);
      for (var head = 0u; head < HEADS; head++) {
        scores[head] += dot(queries[head * QUADS + quad], key);
      }
    }
    for (var head = 0u; head < HEADS; head++) {
      weights[head * CHUNK + i] = scores[head];
      tops[head] = max(tops[head], scores[head]);
    }
  }
  for (var head = 0u; head < HEADS; head++) { lane_tops[head * LANES + lane] = tops[head]; }
  workgroupBarrier();
  for (var size = LANES; size > 1u; size = (size + 1u) / 2u) {
    let upper = (size + 1u) / 2u;
    if (lane + upper < size) {
      for (var at = lane; at < HEADS * LANES; at += LANES) {
        lane_tops[at] = max(lane_tops[at], lane_tops[at + upper]);
      }
    }
    workgroupBarrier();
  }
}

fn write_empty(task: Task, lane: u32) {
  for (var head = lane; head < task.num_heads; head += LANES) {
    partials[partial_row(task, head) + QUADS] = vec4f(NO_KEY, 0.0, 0.0, 0.0);
  }
}

var<private> split: u32;

fn partial_row(task: Task, head: u32) -> u32 {
  let row = (task.token * live.num_splits + split) * params.num_heads + task.first_head + head;
  return row * (QUADS + 1u);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  split = group.x;
  let token = group.z;
  let kv_head = group.y / TILES;
  let tile = group.y % TILES * HEADS;
  let task = Task(
    token, sequence_index[token], kv_head, kv_head * GROUP + tile, min(HEADS, GROUP - tile));
  let position = positions[token];
  let begin = max(group.x * live.split_size, window_begin(position));
  let end = min((group.x + 1u) * live.split_size, position + 1u);
  if (begin >= end) {
    write_empty(task, lane);
    return;
  }
  load_queries(task, lane);

  let quad = lane % QUADS;
  let part = lane / QUADS; // a part takes every PARTS-th position of a chunk's values
  var values = array<vec4f, HEADS>();
  var sums = array<f32, HEADS>();
  var tops: array<f32, HEADS>;
  for (var head = 0u; head < HEADS; head++) { tops[head] = NO_KEY; }
  for (var first = begin; first < end; first += CHUNK) {
    let count = min(CHUNK, end - first);
    score_chunk(task, first, count, lane);
    for (var head = 0u; head < HEADS; head++) {
      let top = max(tops[head], lane_tops[head * LANES]);
      let shrink = exp(tops[head] - top);
      values[head] *= shrink;
      sums[head] *= shrink;
      tops[head] = top;
      for (var i = lane; i < count; i += LANES) {
        weights[head * CHUNK + i] = exp(weights[head * CHUNK + i] - top);
      }
    }
    workgroupBarrier();
    for (var i = part; i < count; i += PARTS) {
      let value = unpack_quad(value_cache[rows[i] + quad]);
      for (var head = 0u; head < HEADS; head++) {
        let weight = weights[head * CHUNK + i];
        values[head] += weight * value;
        sums[head] += weight;
      }
    }
    workgroupBarrier();
  }

  for (var head = 0u; head < HEADS; head++) {
    lane_values[lane] = values[head];
    lane_sums[lane] = sums[head];
    workgroupBarrier();
    if (part == 0u && head < task.num_heads) {
      var value = lane_values[quad];
      var sum = lane_sums[quad];
      for (var other = quad + QUADS; other < LANES; other += QUADS) {
        value += lane_values[other];
        sum += lane_sums[other];
      }
      if (live.num_splits == 1u) {
        put_out(token, task.first_head + head, quad, value / sum);
      } else {
        let row = partial_row(task, head);
        partials[row + quad] = value;
        if (quad == 0u) { partials[row + QUADS] = vec4f(tops[head], sum, 0.0, 0.0); }
      }
    }
    workgroupBarrier();
  }
}
