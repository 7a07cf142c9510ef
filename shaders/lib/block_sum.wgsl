// block_sum: the sum of one f32 a lane over the workgroup, returned to every lane.
// Fixed tree of WG_SIZE leaves, so the bits do not depend on the subgroup size.
// Needs     override WG_SIZE, a power of two; called in uniform control flow
var<workgroup> block_sum_partials: array<f32, WG_SIZE>;

fn block_sum(value: f32, lane: u32) -> f32 {
  block_sum_partials[lane] = value;
  workgroupBarrier();
  for (var step = WG_SIZE / 2u; step > 0u; step /= 2u) {
    if (lane < step) { block_sum_partials[lane] += block_sum_partials[lane + step]; }
    workgroupBarrier();
  }
  let total = block_sum_partials[0];
  workgroupBarrier(); // the next call overwrites the partials
  return total;
}
