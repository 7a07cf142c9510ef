// row_sum_subgroup: the lanes of a workgroup add up their sums by subgroup, then over subgroups in
// order. Right for any subgroup size (4 is WebGPU's least) and any assignment of lanes to subgroups.
// Needs     lib/place_subgroup.wgsl; override WG_SIZE of at least 4 * TOKENS; struct Sums,
//           token_of; uniform control flow
const VALUES = 4u * TOKENS;
override LANES_PER_GROUP = WG_SIZE;
var<workgroup> partials: array<f32, VALUES * WG_SIZE / 4u>; // [num_subgroups, VALUES]
var<workgroup> totals: array<f32, VALUES>; // [TOKENS, 4 rows]

fn lane_of_group(place: Place) -> u32 { return place.lane; }

fn row_sum(sums: Sums, place: Place) {
  let is_first = subgroupElect();
  for (var t = 0u; t < TOKENS; t++) {
    let sum = subgroupAdd(vec4f(
      token_of(sums.r0, t), token_of(sums.r1, t), token_of(sums.r2, t), token_of(sums.r3, t),
    ));
    if (is_first) {
      let at = place.subgroup * VALUES + 4u * t;
      partials[at] = sum.x;
      partials[at + 1u] = sum.y;
      partials[at + 2u] = sum.z;
      partials[at + 3u] = sum.w;
    }
  }
  workgroupBarrier();
  if (place.lane < VALUES) {
    var total = 0.0;
    for (var i = 0u; i < place.num_subgroups; i++) { total += partials[i * VALUES + place.lane]; }
    totals[place.lane] = total;
  }
  workgroupBarrier();
}
