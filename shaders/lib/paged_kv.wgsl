// paged_kv: where a position of a sequence lies in the paged caches, and how far back a query sees.
// Needs     params.num_kv_heads, params.max_blocks, params.sliding_window; block_tables; const QUADS

override BLOCK_SIZE: u32 = 16; // positions a block

// Stands for "no key seen yet" where a maximum is kept: WGSL promises nothing of infinities, and
// exp(NO_KEY - x) is 0 for every score x.
const NO_KEY = -1e30;

// The first quad of one head's row at `position` of the sequence in row `sequence` of the block tables.
fn kv_row(sequence: u32, position: u32, kv_head: u32) -> u32 {
  let block = block_tables[sequence * params.max_blocks + position / BLOCK_SIZE];
  let slot = block * BLOCK_SIZE + position % BLOCK_SIZE;
  return (slot * params.num_kv_heads + kv_head) * QUADS;
}

// The first position that the query at `position` sees; 0 as sliding_window stands for no window.
fn window_begin(position: u32) -> u32 {
  let window = params.sliding_window;
  return select(0u, position + 1u - window, window > 0u && position >= window);
}
