// sampling_row: one row of samplingRows, [max_samples, 12] u32, and what follows from it.
// The fields are those of src/kernels/sampling/samplingRow.ts.
// Needs     lib/sort_key.wgsl, lib/random.wgsl

const ROW_WORDS: u32 = 12u;
const ROW_SLOT: u32 = 0u;
const ROW_SEED: u32 = 1u;
const ROW_POSITION: u32 = 2u;
const ROW_FLAGS: u32 = 3u;
const ROW_TEMPERATURE: u32 = 4u;
const ROW_TOP_K: u32 = 5u;
const ROW_TOP_P: u32 = 6u;
const ROW_MIN_P: u32 = 7u;
const ROW_REPETITION: u32 = 8u;
const ROW_PRESENCE: u32 = 9u;
const ROW_FREQUENCY: u32 = 10u;
const ROW_MASK: u32 = 11u;

const FLAG_GREEDY: u32 = 1u;
const FLAG_PENALTIES: u32 = 2u;
const FLAG_FILTERED: u32 = 4u;

fn is_greedy(flags: u32) -> bool { return (flags & FLAG_GREEDY) != 0u; }

// A filter cannot change the likeliest token, so greedy wins over filtered.
fn is_filtered(flags: u32) -> bool {
  return (flags & (FLAG_GREEDY | FLAG_FILTERED)) == FLAG_FILTERED;
}

// Key of logit / temperature + Gumbel noise: the token with the largest is a draw from the softmax
// (Gumbel-max: Maddison et al. 2014, arXiv:1411.0030).
fn draw_key(key: u32, temperature: f32, noise: u32) -> u32 {
  if (key <= NEG_INF_KEY) { return NEG_INF_KEY; } // probability 0
  return sort_key(bitcast<u32>(key_value(key) / temperature + gumbel(noise)));
}

// exp((logit - top) / temperature): probability relative to the likeliest token.
fn relative_weight(key: u32, top_key: u32, temperature: f32) -> f32 {
  if (key <= NEG_INF_KEY) { return 0.0; }
  if (key == top_key) { return 1.0; } // exp(0) may be off by 3 ulp
  return exp(max((key_value(key) - key_value(top_key)) / temperature, -200.0));
}
