// qk_norm_rope: rotates q and k by their position, normalising each head before where the model
// does; q goes to `q`, k and v into the paged caches.
//   low'  = low  * cos - high * sin        low, high: the halves of a head (HF's rotate_half)
//   high' = high * cos + low  * sin
//
// Shapes    qkv: num_partials x [num_tokens, num_heads + 2 * num_kv_heads, head_dim] f32, partial_stride
//           apart, to be summed: q heads, k heads, v heads
//           rope_table: [max_positions, head_dim] f32: cos, then sin    q: [num_tokens, num_heads, head_dim]
//           key_cache, value_cache: [num_slots, num_kv_heads, head_dim] f32 or packed f16
// Dispatch  one lane for each (token, head, quad of its low half), over x and y
// Accuracy  rtol 1e-5 against test/oracles/rope.ts, before rounding to f16
// Prelude   const QUADS = head_dim / 4
// Includes  lib/live.wgsl, lib/kv_f32.wgsl or lib/kv_f16.wgsl, lib/qk_plain.wgsl or lib/qk_normed.wgsl
override WG_SIZE: u32 = 64;
const HALF = QUADS / 2u;

struct Params { num_heads: u32, num_kv_heads: u32, eps: f32, num_partials: u32, partial_stride: u32 }
struct Pair { low: vec4f, high: vec4f }
@group(1) @binding(0) var<uniform> params: Params; // the stride in quads
@group(1) @binding(1) var<storage, read> qkv: array<vec4f>;
@group(1) @binding(2) var<storage, read> positions: array<u32>;
@group(1) @binding(3) var<storage, read> slot_mapping: array<u32>;
@group(1) @binding(4) var<storage, read> rope_table: array<vec4f>;

fn add(pair: Pair, low: u32, high: u32) -> Pair { return Pair(pair.low + qkv[low], pair.high + qkv[high]); }

// The sums of two quads over the partials, in order; four partials are on their way at once.
fn qkv_pair(low: u32, high: u32) -> Pair {
  let stride = params.partial_stride;
  var pair = Pair(vec4f(), vec4f());
  var at = 0u;
  var left = params.num_partials;
  for (; left >= 4u; left -= 4u) {
    pair = add(pair, low + at, high + at);
    pair = add(pair, low + at + stride, high + at + stride);
    pair = add(pair, low + at + 2u * stride, high + at + 2u * stride);
    pair = add(pair, low + at + 3u * stride, high + at + 3u * stride);
    at += 4u * stride;
  }
  for (; left > 0u; left--) {
    pair = add(pair, low + at, high + at);
    at += stride;
  }
  return pair;
}

fn qkv_quad(at: u32) -> vec4f { return qkv_pair(at, at).low; }

fn rotate(pair: Pair, position: u32, at: u32) -> Pair {
  let cos = rope_table[position * QUADS + at];
  let sin = rope_table[position * QUADS + HALF + at];
  return Pair(pair.low * cos - pair.high * sin, pair.high * cos + pair.low * sin);
}

@compute @workgroup_size(WG_SIZE)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) num_groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let index = (group.y * num_groups.x + group.x) * WG_SIZE + lane;
  let all_heads = params.num_heads + 2u * params.num_kv_heads;
  let token = index / (all_heads * HALF);
  if (token >= live.num_tokens) { return; }
  let head = index / HALF % all_heads;
  let at = index % HALF;
  let row = (token * all_heads + head) * QUADS;
  let pair = qkv_pair(row + at, row + at + HALF);
  if (head < params.num_heads) {
    let rotated = rotate(normalise(pair, row, at, false), positions[token], at);
    let to = (token * params.num_heads + head) * QUADS + at;
    q[to] = rotated.low;
    q[to + HALF] = rotated.high;
    return;
  }
  let kv_head = (head - params.num_heads) % params.num_kv_heads;
  let to = (slot_mapping[token] * params.num_kv_heads + kv_head) * QUADS + at;
  if (head < params.num_heads + params.num_kv_heads) {
    let rotated = rotate(normalise(pair, row, at, true), positions[token], at);
    key_cache[to] = pack_quad(rotated.low);
    key_cache[to + HALF] = pack_quad(rotated.high);
  } else {
    value_cache[to] = pack_quad(pair.low);
    value_cache[to + HALF] = pack_quad(pair.high);
  }
}
