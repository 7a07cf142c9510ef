// linear_out_f16: four neighbouring columns of y as f16 in tiles, clamped to the finite ones; finite halves,
// two to a word, are no NaN as f32. Columns are multiples of 4, strides of 16.
// Needs     lib/linear_store.wgsl, lib/tiles.wgsl
fn store_four(token: u32, n: u32, sums: vec4f, ups: vec4f) {
  if (n >= params.num_outputs) { return; }
  let halves = finite_halves(vec4f(
    finished(n, sums.x, ups.x),
    finished(n + 1u, sums.y, ups.y),
    finished(n + 2u, sums.z, ups.z),
    finished(n + 3u, sums.w, ups.w),
  ));
  let column = params.out_offset + n;
  let at = 4u * tiled_chunk(token, column / 8u, params.out_stride / 8u) + column % 8u / 2u;
  put(at, bitcast<f32>(halves.x));
  put(at + 1u, bitcast<f32>(halves.y));
}
