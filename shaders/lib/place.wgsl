// place: where an invocation is, for kernels whose parts need subgroups or not.
struct Place {
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) num_groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
}
