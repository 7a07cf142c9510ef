// place: where an invocation is, for kernels whose parts need subgroups or not.
struct Place {
  @builtin(local_invocation_index) lane: u32,
}
