// row_sum_alone: a lane has its rows to itself; nothing to add, nothing to wait for.
// Needs     struct Sums, TOKENS, token_of; lib/input_*.wgsl, lib/x_*.wgsl
const LANES_PER_GROUP = 1u;
var<private> totals: array<f32, 4 * TOKENS>; // [TOKENS, 4 rows]

fn lane_of_group(place: Place) -> u32 { return 0u; }

fn row_sum(sums: Sums, place: Place) {
  for (var t = 0u; t < TOKENS; t++) {
    var scale = 1.0;
    if (HAS_NORM) { scale = norm_scale(lane_squares(t)); }
    totals[4u * t] = scale * token_of(sums.r0, t);
    totals[4u * t + 1u] = scale * token_of(sums.r1, t);
    totals[4u * t + 2u] = scale * token_of(sums.r2, t);
    totals[4u * t + 3u] = scale * token_of(sums.r3, t);
  }
}

// The sum of row index % 4 for token index / 4 of the workgroup.
fn total(index: u32) -> f32 { return totals[index]; }
