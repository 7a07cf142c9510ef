// linear_four: four or eight chunks of rows of w, LANE_ROWS apart, from device memory by way of registers into
// workgroup memory.
// Needs     lib/halves_*.wgsl, lib/linear_slice.wgsl; var<workgroup> tiles: array<vec4u>; const STRIDE, LANE_ROWS
struct Four { a: Raw, b: Raw, c: Raw, d: Raw }

fn load_four(rows: vec4u, chunk: u32) -> Four {
  let at = rows + chunk;
  return Four(load_raw(at.x), load_raw(at.y), load_raw(at.z), load_raw(at.w));
}

// Chunks past the end of k become zeros.
fn store_chunk(at: u32, halves: vec4u, is_inside: bool) {
  tiles[at] = select(vec4u(), halves, WHOLE_K || is_inside);
}

fn store_four_rows(at: u32, four: Four, is_inside: bool) {
  store_chunk(at, halves_of(four.a), is_inside);
  store_chunk(at + LANE_ROWS * STRIDE, halves_of(four.b), is_inside);
  store_chunk(at + 2u * LANE_ROWS * STRIDE, halves_of(four.c), is_inside);
  store_chunk(at + 3u * LANE_ROWS * STRIDE, halves_of(four.d), is_inside);
}

struct EightRows { low: Four, high: Four }

fn load_eight_rows(low: vec4u, high: vec4u, chunk: u32) -> EightRows {
  return EightRows(load_four(low, chunk), load_four(high, chunk));
}

fn store_eight_rows(at: u32, rows: EightRows, is_inside: bool) {
  store_four_rows(at, rows.low, is_inside);
  store_four_rows(at + 4u * LANE_ROWS * STRIDE, rows.high, is_inside);
}
