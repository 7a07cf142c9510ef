// linear_tile: which row of w a row of a tile is. With swiglu a tile holds HALF_TILE gate rows, then
// their up rows.
// Needs     params: lib/linear_io.wgsl; const HALF_TILE
fn weight_row(first_output: u32, row: u32) -> u32 {
  if (params.is_swiglu == 0u) { return min(first_output + row, params.num_outputs - 1u); }
  let output = min(first_output + row % HALF_TILE, params.num_outputs - 1u);
  return output + select(0u, params.num_outputs, row >= HALF_TILE);
}
