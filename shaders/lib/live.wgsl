// live: the counts of this step, in a buffer of the command list's or with the step's inputs; bound once a pass.
// The fields are those of LiveCounts in src/device/liveCounts.ts, in the same order.

struct Live {
  num_tokens: u32,
  num_sequences: u32,
  num_decode_tokens: u32,  // leading tokens, handled by split-K decode attention
  num_prefill_tiles: u32,
  num_samples: u32,        // rows that get logits and a token
  split_size: u32,         // KV positions one split covers
  num_splits: u32,
  max_context_length: u32,
  num_penalized: u32,
  num_filtered: u32,
  num_wide: u32,
  num_biased: u32,         // entries of the table of biases and bans
}
@group(0) @binding(0) var<uniform> live: Live;
