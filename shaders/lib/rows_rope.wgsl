// rows_rope: a lane group's four rows are two neighbours of a head's low half and their partners in
// its high half, so that RoPE (shaders/qk_norm_rope.wgsl has the formula) finds its pairs together, and
// two neighbours make a whole u32 of an f16 cache. Rotated q goes to `q`, k and v into the caches.
// Prelude   const HEAD_DIM
// Needs     params; lib/fused_rope*.wgsl, lib/kv_pair_*.wgsl, lib/linear_common.wgsl, lib/row_sum_*.wgsl or linear_gemv_held.wgsl
const HALF = HEAD_DIM / 2u;            // pairs of neighbours in a head
const GROUPS_PER_HEAD = HEAD_DIM / 4u; // pairs of neighbours in half a head

fn num_lane_groups() -> u32 { return params.num_outputs / 4u; }

// Groups past the last repeat it, so that every lane reaches row_sum's barriers.
fn rows_of(lane_group: u32) -> vec4u {
  let group = min(lane_group, params.num_outputs / 4u - 1u);
  let first = group / GROUPS_PER_HEAD * HEAD_DIM + 2u * (group % GROUPS_PER_HEAD);
  return vec4u(first) + vec4u(0, 1, HALF, HALF + 1);
}

fn store_rows(lane_group: u32, lane: u32, first_token: u32, num_tokens: u32) {
  if (lane_group >= params.num_outputs / 4u) { return; }
  let rows = rows_of(lane_group);
  for (var t = lane; t < num_tokens; t += LANES_PER_GROUP) {
    let low = vec2f(total(4u * t) + bias(rows.x), total(4u * t + 1u) + bias(rows.y));
    let high = vec2f(total(4u * t + 2u) + bias(rows.z), total(4u * t + 3u) + bias(rows.w));
    store_pairs(first_token + t, lane_group, low, high);
  }
}

fn store_pairs(token: u32, group: u32, low: vec2f, high: vec2f) {
  let head = group / GROUPS_PER_HEAD;
  let at = group % GROUPS_PER_HEAD;
  if (head >= params.num_heads + params.num_kv_heads) {
    let to = cache_row(token, head - params.num_heads - params.num_kv_heads) + at;
    value_cache[to] = pack_pair(low);
    value_cache[to + GROUPS_PER_HEAD] = pack_pair(high);
    return;
  }
  let angles = positions[token] * HALF + at;
  let cos = rope_table[angles];
  let sin = rope_table[angles + GROUPS_PER_HEAD];
  let turned_low = low * cos - high * sin;
  let turned_high = high * cos + low * sin;
  if (head < params.num_heads) {
    let to = (token * params.num_heads + head) * HALF + at;
    q[to] = turned_low;
    q[to + GROUPS_PER_HEAD] = turned_high;
    return;
  }
  let to = cache_row(token, head - params.num_heads) + at;
  key_cache[to] = pack_pair(turned_low);
  key_cache[to + GROUPS_PER_HEAD] = pack_pair(turned_high);
}

fn cache_row(token: u32, kv_head: u32) -> u32 {
  return (slot_mapping[token] * params.num_kv_heads + kv_head) * HALF;
}
