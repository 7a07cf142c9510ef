// merge_best: the best candidate of several slices of the vocabulary.
// Needs     override WG_SIZE, a power of two; `lists` and `params.num_lists`, `params.max_samples`,
//           `params.lanes` of the including kernel; lib/sort_key.wgsl, lib/block_best.wgsl,
//           sampling/candidate_list.wgsl
const NO_PAIR = vec2u(NEG_INF_KEY, NO_TOKEN);

fn entry_of(list: u32, sample: u32, index: u32) -> vec2u {
  let at = list_start(list, sample, params.max_samples) + LIST_ENTRIES + 2u * index;
  return vec2u(sort_key(lists[at]), lists[at + 1u]);
}

// The first entry of all lists. Called in uniform control flow.
fn merged_best(sample: u32, lane: u32) -> vec2u {
  var best = NO_PAIR;
  for (var list = lane; list < params.num_lists; list += WG_SIZE) {
    let entry = entry_of(list, sample, 0u);
    if (precedes(entry, best)) { best = entry; }
  }
  return block_best(best, lane);
}
