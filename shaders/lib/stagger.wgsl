// stagger: workgroups that start together load together and then multiply together, so that what serves
// loads idles meanwhile; those of a later phase begin later.
// Needs     params.num_chunks, params.out_stride
override STAGGER: u32 = 0; // dependent steps, of some 4 clocks each, between two phases
override PHASES: u32 = 1;

// The first chunk of k: 0, in some way that the compiler cannot see before the wait is over.
fn first_chunk(group: vec3u) -> u32 {
  if (STAGGER == 0u) { return 0u; }
  let id = group.x + 4099u * group.y + 65551u * group.z;
  let phase = ((id * 0x9e3779b9u) >> 16u) % PHASES;
  var value = params.num_chunks;
  for (var i = 0u; i < phase * STAGGER; i++) { value = value * 1664525u + 1013904223u; }
  return select(0u, params.num_chunks, value == 0x7fffdeadu && params.out_stride == 0u);
}
