// block_best: the first (key, token id) in the order of `precedes`, over the workgroup.
// Needs     override WG_SIZE, a power of two; params.lanes = WG_SIZE (a loop that ends by a uniform is
//           not unrolled, and unrolled barriers cost lavapipe seconds of compiling);
//           lib/sort_key.wgsl; called in uniform control flow
var<workgroup> block_best_partials: array<vec2u, WG_SIZE>;

fn block_best(mine: vec2u, lane: u32) -> vec2u {
  block_best_partials[lane] = mine;
  workgroupBarrier();
  for (var step = params.lanes / 2u; step > 0u; step /= 2u) {
    if (lane < step) {
      let other = block_best_partials[lane + step];
      if (precedes(other, block_best_partials[lane])) { block_best_partials[lane] = other; }
    }
    workgroupBarrier();
  }
  let best = block_best_partials[0];
  workgroupBarrier(); // the next call overwrites the partials
  return best;
}
