// place_subgroup: where an invocation is, for kernels whose parts need subgroups.
// Needs     enable subgroups
struct Place {
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_invocation_id) subgroup_lane: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(num_subgroups) num_subgroups: u32,
}
