// linear_gemv_held: linear_gemv, a token at a time, for rows of at most two chunks a lane. A workgroup keeps the
// activations, normed where they are, in registers while it walks over the weight, and has the next four
// rows' weights on their way to registers while it sums four.
//
// Shapes    as linear_gemv
// Dispatch  (x + y * num_groups.x: any number of workgroups, which take turns at four rows; z: tokens)
// Accuracy  as linear_gemv
// Includes  as linear_gemv, with lib/place_subgroup.wgsl, lib/x_load.wgsl and lib/tokens_1.wgsl, without
//           lib/row_sum_*.wgsl
override WG_SIZE: u32; // twice as many chunks of 8 weights are a row at most
override LANES_PER_GROUP = WG_SIZE;
override MAX_SUBGROUPS = WG_SIZE / 4u; // WebGPU's smallest subgroup
override MAX_SUMS = 4u * MAX_SUBGROUPS;

var<workgroup> row_sums: array<f32, 2u * MAX_SUMS>; // [this turn's or the last one's, subgroup, row]
var<workgroup> square_sums: array<f32, MAX_SUBGROUPS>;

// A lane's two chunks of four rows; names, as drivers keep arrays in memory.
struct Rows {
  a0: RawWeights, a1: RawWeights, a2: RawWeights, a3: RawWeights,
  b0: RawWeights, b1: RawWeights, b2: RawWeights, b3: RawWeights,
}

// What turns this turn's sums into totals.
struct Turn { first_sum: u32, num_subgroups: u32, scale: f32 }
var<private> current: Turn;

fn total(row: u32) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < current.num_subgroups; i++) { sum += row_sums[current.first_sum + 4u * i + row]; }
  return sum * current.scale;
}

// Rows past the last repeat it.
fn load_four_rows(lane_group: u32, a: u32, b: u32) -> Rows {
  let start = rows_of(lane_group) * params.num_chunks;
  return Rows(
    raw_weights(start.x + a), raw_weights(start.y + a), raw_weights(start.z + a), raw_weights(start.w + a),
    raw_weights(start.x + b), raw_weights(start.y + b), raw_weights(start.z + b), raw_weights(start.w + b),
  );
}

// Zeros where the row has no such chunk, for which its last one's weights stand.
fn load_held(chunk: u32, token: u32, place: Place) -> Activations {
  if (chunk >= params.num_chunks) { return Activations(vec4f(), vec4f()); }
  return load_activations(chunk, token, token, place);
}

fn norm_scale_of(place: Place) -> f32 {
  let lane_sum = subgroupAdd(lane_squares(0u));
  if (place.subgroup_lane == 0u) { square_sums[place.subgroup] = lane_sum; }
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < place.num_subgroups; i++) { sum += square_sums[i]; }
  return norm_scale(sum);
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) num_groups: vec3u, place: Place) {
  let id = group.x + group.y * num_groups.x;
  let stride = num_groups.x * num_groups.y;
  let last = params.num_chunks - 1u;
  let a = min(place.lane, last);
  let b = min(place.lane + WG_SIZE, last);
  let token = group.z;
  if (id == 0u) { write_residual(token, live_rows(), place); }

  var next = load_four_rows(id, a, b);
  let xs_a = load_held(place.lane, token, place);
  let xs_b = load_held(place.lane + WG_SIZE, token, place);
  current.num_subgroups = place.num_subgroups;
  current.scale = 1.0;
  if (HAS_NORM) { current.scale = norm_scale_of(place); }

  var first_sum = 0u;
  for (var lane_group = id; lane_group < num_lane_groups(); lane_group += stride) {
    let sums = vec4f(
      multiply(widen(next.a0), xs_a) + multiply(widen(next.b0), xs_b),
      multiply(widen(next.a1), xs_a) + multiply(widen(next.b1), xs_b),
      multiply(widen(next.a2), xs_a) + multiply(widen(next.b2), xs_b),
      multiply(widen(next.a3), xs_a) + multiply(widen(next.b3), xs_b),
    );
    next = load_four_rows(lane_group + stride, a, b);
    let sum = subgroupAdd(sums);
    if (subgroupElect()) {
      let at = first_sum + 4u * place.subgroup;
      row_sums[at] = sum.x;
      row_sums[at + 1u] = sum.y;
      row_sums[at + 2u] = sum.z;
      row_sums[at + 3u] = sum.w;
    }
    workgroupBarrier(); // the only one of a turn: the next writes the other half
    current.first_sum = first_sum;
    store_rows(lane_group, place.lane, token, 1u);
    first_sum = MAX_SUMS - first_sum;
  }
}
