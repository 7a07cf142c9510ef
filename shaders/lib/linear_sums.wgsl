// linear_sums: from workgroup memory to y, what tensor cores have added up for a workgroup's tokens and rows.
// Needs     lib/live.wgsl, lib/linear_common.wgsl, lib/linear_out_*.wgsl; var<workgroup> tiles: array<vec4u>; const
//           SUM_STRIDE (from a token's sums to the next, in vec4), HALF_TILE, LANES

// The live ones of num_tokens tokens from first_token on, `rows` sums each, to the rows of y from first_row on. Four
// neighbouring sums at a time; with swiglu the up rows' sums lie HALF_TILE further.
fn store_sums(first_token: u32, num_tokens: u32, first_row: u32, rows: u32, first_output: u32, lane: u32) {
  let is_swiglu = params.is_swiglu != 0u;
  let quads = select(rows, HALF_TILE, is_swiglu) / 4u;
  let num_live = min(num_tokens, live_rows() - min(first_token, live_rows()));
  for (var i = lane; i < num_live * quads; i += LANES) {
    let at = i / quads * SUM_STRIDE + i % quads;
    var ups = vec4f();
    if (is_swiglu) { ups = bitcast<vec4f>(tiles[at + HALF_TILE / 4u]); }
    store_four(first_row + i / quads, first_output + i % quads * 4u, bitcast<vec4f>(tiles[at]), ups);
  }
}
