// merge_lists: the candidates of several slices of the vocabulary as one list.
// Needs     override WG_SIZE, a power of two, at least 64; params.lanes = WG_SIZE;
//           sampling/merge_best.wgsl and what that needs; lib/block_sum.wgsl, lib/bitonic64.wgsl,
//           sampling/sampling_row.wgsl

// The first 64 entries of all lists, one each in lanes 0 to 63. Two sorted lists, one of them
// reversed, give the 64 firsts of both lane by lane, as a bitonic sequence. Groups of 64 lanes fold
// every num_groups-th list, then the groups are folded. Called in uniform control flow.
fn merged_entry(sample: u32, lane: u32) -> vec2u {
  let num_groups = params.lanes / MAX_CANDIDATES;
  let reversed = MAX_CANDIDATES - 1u - lane % MAX_CANDIDATES;
  var mine = NO_PAIR;
  for (var first = 0u; first < params.num_lists; first += num_groups) {
    let list = first + lane / MAX_CANDIDATES;
    if (list < params.num_lists) {
      let other = entry_of(list, sample, reversed);
      if (precedes(other, mine)) { mine = other; }
    }
    mine = bitonic_merge(mine, lane);
  }
  for (var half = num_groups / 2u; half > 0u; half /= 2u) {
    bitonic_pairs[lane] = mine;
    workgroupBarrier();
    let group = lane / MAX_CANDIDATES;
    if (group < half) {
      let other = bitonic_pairs[(group + half) * MAX_CANDIDATES + reversed];
      if (precedes(other, mine)) { mine = other; }
    }
    workgroupBarrier();
    mine = bitonic_merge(mine, lane);
  }
  return mine;
}

// Mass of all lists, relative to the token `top_key`. Called in uniform control flow.
fn merged_mass(sample: u32, top_key: u32, temperature: f32, lane: u32) -> f32 {
  var mass = 0.0;
  for (var list = lane; list < params.num_lists; list += WG_SIZE) {
    let scale = relative_weight(entry_of(list, sample, 0u).x, top_key, temperature);
    mass += bitcast<f32>(lists[list_start(list, sample, params.max_samples) + LIST_MASS]) * scale;
  }
  return block_sum(mass, lane);
}

// Tokens in all slices.
fn merged_size(sample: u32) -> u32 {
  var size = 0u;
  for (var list = 0u; list < params.num_lists; list += 1u) {
    size += lists[list_start(list, sample, params.max_samples) + LIST_SIZE];
  }
  return size;
}
