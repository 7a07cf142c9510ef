// row_sum_subgroup: the lanes of a workgroup add up their sums by subgroup, then over subgroups in
// order. Right for any subgroup size (4 is WebGPU's least) and any assignment of lanes to subgroups.
// Needs     lib/place_subgroup.wgsl, lib/input_*.wgsl, lib/x_load.wgsl; override WG_SIZE; struct Sums,
//           token_of; uniform control flow
const ROW_VALUES = 4u * TOKENS;
const VALUES = ROW_VALUES + select(0u, TOKENS, HAS_NORM);
override LANES_PER_GROUP = WG_SIZE;
var<workgroup> partial_totals: array<f32, VALUES * WG_SIZE / 4u>; // [num_subgroups, VALUES]
var<workgroup> totals: array<f32, VALUES>; // [TOKENS, 4 rows], then the squares of each token

fn lane_of_group(place: Place) -> u32 { return place.lane; }

fn row_sum(sums: Sums, place: Place) {
  let is_first = subgroupElect();
  let first = place.subgroup * VALUES;
  for (var t = 0u; t < TOKENS; t++) {
    let sum = subgroupAdd(vec4f(
      token_of(sums.r0, t), token_of(sums.r1, t), token_of(sums.r2, t), token_of(sums.r3, t),
    ));
    if (is_first) {
      let at = first + 4u * t;
      partial_totals[at] = sum.x;
      partial_totals[at + 1u] = sum.y;
      partial_totals[at + 2u] = sum.z;
      partial_totals[at + 3u] = sum.w;
    }
    if (HAS_NORM) {
      let squares = subgroupAdd(lane_squares(t));
      if (is_first) { partial_totals[first + ROW_VALUES + t] = squares; }
    }
  }
  workgroupBarrier();
  for (var value = place.lane; value < VALUES; value += WG_SIZE) {
    var sum = 0.0;
    for (var i = 0u; i < place.num_subgroups; i++) { sum += partial_totals[i * VALUES + value]; }
    totals[value] = sum;
  }
  workgroupBarrier();
}

// The sum of row index % 4 for token index / 4 of the workgroup.
fn total(index: u32) -> f32 {
  if (HAS_NORM) { return totals[index] * norm_scale(totals[ROW_VALUES + index / 4u]); }
  return totals[index];
}
