// x_broadcast: four activations that all lanes need, each loaded by one lane in four and passed on.
// Software adapters run a load a lane even where all lanes load the same.
// Needs     lib/place_subgroup.wgsl, lib/input_*.wgsl; subgroups of 4 lanes or more, all active; uniform
//           control flow
alias Factor = f32;

fn load_factor(quad: u32, place: Place) -> Factor {
  return norm_element(quad, place.subgroup_lane % 4u);
}

fn load_x(index: u32, token: u32, factor: Factor, place: Place) -> vec4f {
  return share(activation_element(index, place.subgroup_lane % 4u, token, factor));
}

// Squares of the activations that this lane got.
fn lane_squares(token: u32) -> f32 { return dot(share(squares_of(token)), vec4f(1.0)); }

fn share(part: f32) -> vec4f {
  return vec4f(
    subgroupBroadcast(part, 0u),
    subgroupBroadcast(part, 1u),
    subgroupBroadcast(part, 2u),
    subgroupBroadcast(part, 3u),
  );
}
