// linear_out_f32: four neighbouring columns of y, f32.
// Needs     lib/linear_store.wgsl
fn store_four(token: u32, n: u32, sums: vec4f, ups: vec4f) {
  for (var j = 0u; j < 4u; j++) { store(token, n + j, sums[j], ups[j]); }
}
