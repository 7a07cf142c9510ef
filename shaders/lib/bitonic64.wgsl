// bitonic64: sorts 64 (key, token id) pairs, one a lane, in the order of `precedes`; every 64
// lanes of the workgroup work on pairs of their own.
// Source    Batcher 1968, "Sorting networks and their applications"
// Needs     override WG_SIZE, a multiple of 64; params.lanes = WG_SIZE (see block_best.wgsl);
//           lib/sort_key.wgsl; called in uniform control flow
var<workgroup> bitonic_pairs: array<vec2u, WG_SIZE>;

fn bitonic_exchange(mine: vec2u, lane: u32, stride: u32, keep_first: bool) -> vec2u {
  bitonic_pairs[lane] = mine;
  workgroupBarrier();
  let other = bitonic_pairs[lane ^ stride];
  workgroupBarrier(); // the next exchange overwrites the pairs
  return select(other, mine, precedes(mine, other) == keep_first);
}

// `mine` is bitonic over the 64 lanes (first rising, then falling, or rotated); returns it sorted.
fn bitonic_merge(mine: vec2u, lane: u32) -> vec2u {
  var pair = mine;
  for (var stride = min(params.lanes, 64u) / 2u; stride > 0u; stride /= 2u) {
    pair = bitonic_exchange(pair, lane, stride, (lane & stride) == 0u);
  }
  return pair;
}

fn bitonic_sort(mine: vec2u, lane: u32) -> vec2u {
  var pair = mine;
  for (var size = 2u; size < min(params.lanes, 64u); size *= 2u) {
    for (var stride = size / 2u; stride > 0u; stride /= 2u) {
      let keep_first = ((lane & stride) == 0u) == ((lane & size) == 0u);
      pair = bitonic_exchange(pair, lane, stride, keep_first);
    }
  }
  return bitonic_merge(pair, lane);
}
