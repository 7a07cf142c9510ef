// row_sum_tree: the sum of a value a lane over each run of LANES_PER_ROW lanes, returned to all
// of them. Fixed tree, so the bits do not depend on the subgroup size.
// Needs     override WG_SIZE, LANES_PER_ROW, a power of two; alias Acc; uniform control flow
var<workgroup> row_sum_partials: array<Acc, WG_SIZE>;

fn row_sum(value: Acc, lane: u32) -> Acc {
  row_sum_partials[lane] = value;
  workgroupBarrier();
  for (var step = LANES_PER_ROW / 2u; step > 0u; step /= 2u) {
    if (lane % LANES_PER_ROW < step) { row_sum_partials[lane] += row_sum_partials[lane + step]; }
    workgroupBarrier();
  }
  let total = row_sum_partials[lane - lane % LANES_PER_ROW];
  workgroupBarrier(); // the next call overwrites the partials
  return total;
}
