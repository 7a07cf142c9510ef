// row_sum_memory: the lanes of a workgroup add up their sums over workgroup memory, in a fixed
// order: WG_SIZE / VALUES lanes add an equal share of each value, then one adds up the shares.
// Needs     override WG_SIZE, a power of two of at least 4 * TOKENS; struct Sums, token_of;
//           uniform control flow
const VALUES = 4u * TOKENS;
override LANES_PER_GROUP = WG_SIZE;
override STRIDE = WG_SIZE + 1u; // odd, so that lanes on different values meet different banks
var<workgroup> partials: array<f32, VALUES * STRIDE>; // [VALUES, STRIDE]
var<workgroup> totals: array<f32, VALUES>; // [TOKENS, 4 rows]

fn lane_of_group(place: Place) -> u32 { return place.lane; }

fn row_sum(sums: Sums, place: Place) {
  let lane = place.lane;
  for (var t = 0u; t < TOKENS; t++) {
    partials[4u * t * STRIDE + lane] = token_of(sums.r0, t);
    partials[(4u * t + 1u) * STRIDE + lane] = token_of(sums.r1, t);
    partials[(4u * t + 2u) * STRIDE + lane] = token_of(sums.r2, t);
    partials[(4u * t + 3u) * STRIDE + lane] = token_of(sums.r3, t);
  }
  workgroupBarrier();
  let lanes_per_value = WG_SIZE / VALUES;
  let first = (lane % VALUES) * STRIDE + lane / VALUES;
  var sum = 0.0;
  for (var i = 0u; i < WG_SIZE; i += lanes_per_value) { sum += partials[first + i]; }
  workgroupBarrier(); // all are done reading
  partials[first] = sum;
  workgroupBarrier();
  if (lane < VALUES) {
    var total = 0.0;
    for (var i = 0u; i < lanes_per_value; i++) { total += partials[first + i]; }
    totals[lane] = total;
  }
  workgroupBarrier();
}
