// block_sum: the sum of one f32 a lane over the workgroup, returned to every lane.
// Fixed tree of WG_SIZE leaves, so the bits do not depend on the subgroup size; of fours, as each level
// costs a barrier.
// Needs     override WG_SIZE, a power of two; called in uniform control flow
var<workgroup> block_sum_partials: array<f32, WG_SIZE>;

fn block_sum(value: f32, lane: u32) -> f32 {
  block_sum_partials[lane] = value;
  workgroupBarrier();
  var width = WG_SIZE;
  for (; width >= 4u; width /= 4u) {
    let step = width / 4u;
    if (lane < step) {
      block_sum_partials[lane] =
        (block_sum_partials[lane] + block_sum_partials[lane + step]) +
        (block_sum_partials[lane + 2u * step] + block_sum_partials[lane + 3u * step]);
    }
    workgroupBarrier();
  }
  var total = block_sum_partials[0];
  if (width == 2u) { total += block_sum_partials[1]; }
  workgroupBarrier(); // the next call overwrites the partials
  return total;
}
