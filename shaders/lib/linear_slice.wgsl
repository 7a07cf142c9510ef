// linear_slice: which chunks of 8 halves a lane brings of a slice of k, CHUNKS of them a row.
// Needs     params: lib/linear_io.wgsl; lib/linear_tile.wgsl; const CHUNKS, LANE_ROWS (rows that the lanes load at once)
override WHOLE_K: bool; // k is whole slices

// Where the rows of a lane's chunks begin: row and three more, LANE_ROWS apart.
fn weight_rows(first_output: u32, row: u32) -> vec4u {
  return params.num_chunks * vec4u(
    weight_row(first_output, row),
    weight_row(first_output, row + LANE_ROWS),
    weight_row(first_output, row + 2u * LANE_ROWS),
    weight_row(first_output, row + 3u * LANE_ROWS),
  );
}

// Loads never branch: past the end of k they repeat the last chunk, which store_chunk makes zero, or the
// last tile, which nothing multiplies.
fn chunk_of(k: u32, lane: u32) -> u32 {
  if (WHOLE_K) { return min(k, params.num_chunks - CHUNKS) + lane % CHUNKS; }
  return min(k + lane % CHUNKS, params.num_chunks - 1u);
}
