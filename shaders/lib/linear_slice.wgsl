// linear_slice: which chunks of 8 halves a lane brings of a slice of k, CHUNKS of them a row.
// Needs     params: lib/linear_io.wgsl; lib/linear_tile.wgsl; lib/tiles.wgsl; const CHUNKS (8),
//           STRIDE, LANE_ROWS (rows that the lanes load at once: 16)
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
// last slice, which nothing multiplies.
fn chunk_of(k: u32, lane: u32) -> u32 {
  if (WHOLE_K) { return min(k, params.num_chunks - CHUNKS) + lane % CHUNKS; }
  return min(k + lane % CHUNKS, params.num_chunks - 1u);
}

// x lies in tiles, so that the 128 lanes bring 16 tokens of a slice as they lie, a tile 32 lanes; its rows
// as rows of w would be a seventh slower. first: what these tokens' tiles begin with, in eights of halves
fn x_chunk(first: u32, k: u32, lane: u32) -> u32 {
  if (WHOLE_K) { return first + 16u * min(k, params.num_chunks - CHUNKS) + lane; }
  return first + 32u * min(k / 2u + lane / 32u, params.num_chunks / 2u - 1u) + lane % 32u;
}

// Where that chunk goes in workgroup memory.
fn x_place(lane: u32) -> u32 { return lane % 32u / 2u * STRIDE + lane / 32u * 2u + lane % 2u; }

fn is_x_inside(k: u32, lane: u32) -> bool { return k + lane / 32u * 2u < params.num_chunks; }
