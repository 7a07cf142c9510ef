// row_sum_memory: the lanes of a workgroup add up their sums over workgroup memory, in a fixed
// order: WG_SIZE / num_values lanes add an equal share of each value, then one adds up the shares.
// Needs     override WG_SIZE, a power of two of at least 4 * TOKENS; struct Sums, token_of;
//           lib/input_*.wgsl, lib/x_load.wgsl; uniform control flow
const ROW_VALUES = 4u * TOKENS;
override LANES_PER_GROUP = WG_SIZE;
override STRIDE = WG_SIZE + 1u; // odd, so that lanes on different values meet different banks
var<workgroup> lane_values: array<f32, ROW_VALUES * STRIDE>; // [ROW_VALUES, STRIDE]
var<workgroup> totals: array<f32, 5u * TOKENS>; // [TOKENS, 4 rows], then the squares of each token

fn lane_of_group(place: Place) -> u32 { return place.lane; }

fn row_sum(sums: Sums, place: Place) {
  let lane = place.lane;
  for (var t = 0u; t < TOKENS; t++) {
    lane_values[4u * t * STRIDE + lane] = token_of(sums.r0, t);
    lane_values[(4u * t + 1u) * STRIDE + lane] = token_of(sums.r1, t);
    lane_values[(4u * t + 2u) * STRIDE + lane] = token_of(sums.r2, t);
    lane_values[(4u * t + 3u) * STRIDE + lane] = token_of(sums.r3, t);
  }
  add_lanes(ROW_VALUES, 0u, lane);
  if (HAS_NORM) {
    for (var t = 0u; t < TOKENS; t++) { lane_values[t * STRIDE + lane] = lane_squares(t); }
    add_lanes(TOKENS, ROW_VALUES, lane);
  }
}

// totals[first_total + value] = sum over lanes of lane_values[value]
fn add_lanes(num_values: u32, first_total: u32, lane: u32) {
  workgroupBarrier();
  let lanes_per_value = WG_SIZE / num_values;
  let first = (lane % num_values) * STRIDE + lane / num_values;
  var sum = 0.0;
  for (var i = 0u; i < WG_SIZE; i += lanes_per_value) { sum += lane_values[first + i]; }
  workgroupBarrier(); // all are done reading
  lane_values[first] = sum;
  workgroupBarrier();
  if (lane < num_values) {
    var whole = 0.0;
    for (var i = 0u; i < lanes_per_value; i++) { whole += lane_values[first + i]; }
    totals[first_total + lane] = whole;
  }
  workgroupBarrier();
}

// The sum of row index % 4 for token index / 4 of the workgroup.
fn total(index: u32) -> f32 {
  if (HAS_NORM) { return totals[index] * norm_scale(totals[ROW_VALUES + index / 4u]); }
  return totals[index];
}
