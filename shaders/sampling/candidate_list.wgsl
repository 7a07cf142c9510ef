// candidate_list: where a list of candidates lies in [num_lists, max_samples, 130] u32.
// The layout is that of src/kernels/sampling/candidateLayout.ts.

const MAX_CANDIDATES: u32 = 64u;
const LIST_MASS: u32 = 0u;    // f32 bits: sum of exp((logit - entry 0's) / temperature) over the slice
const LIST_SIZE: u32 = 1u;    // tokens in the slice
const LIST_ENTRIES: u32 = 2u; // 64 pairs (f32 bits, token id) in order; -inf and NO_TOKEN pad
const LIST_WORDS: u32 = LIST_ENTRIES + 2u * MAX_CANDIDATES;

fn list_start(list: u32, sample: u32, max_samples: u32) -> u32 {
  return (list * max_samples + sample) * LIST_WORDS;
}
