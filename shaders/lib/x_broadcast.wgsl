// x_broadcast: four activations that all lanes need, each loaded by one lane in four and passed on.
// Software adapters run a load a lane even where all lanes load the same.
// Needs     lib/place_subgroup.wgsl; subgroups of 4 lanes or more, all active; uniform control flow
fn load_x(index: u32, place: Place) -> vec4f {
  let part = x[index][place.subgroup_lane % 4u];
  return vec4f(
    subgroupBroadcast(part, 0u),
    subgroupBroadcast(part, 1u),
    subgroupBroadcast(part, 2u),
    subgroupBroadcast(part, 3u),
  );
}
