/**
 * A list of candidates: what a slice of the vocabulary says about one row. Its WGSL twin is
 * shaders/sampling/candidate_list.wgsl. Lists lie in u32 tensors [numLists, maxSamples, 130].
 */

/** Entries of a list, in the order (value descending, token id ascending). */
export const MAX_CANDIDATES = 64;

/** Words of a list: mass, size, then 64 pairs (value, token id). */
export const CANDIDATE_WORDS = 2 + 2 * MAX_CANDIDATES;

/** Marks a padded entry, and a row of `fullRows` that needs no full logits. */
export const NO_TOKEN = 0xffffffff;

/** Where things are in a list. */
export const candidateField = {
  /**
   * f32 bits: sum over the slice of exp((logit - value of entry 0) / temperature). The log-sum-exp
   * is entry 0's value / temperature + log(mass); this form loses nothing where temperature is
   * small. Filtered rows only; 0 on others.
   */
  mass: 0,
  /** Tokens in the slice. */
  size: 1,
  /**
   * Entry i has its value at `entries + 2 i` (f32 bits) and its token id after it. The value is the
   * logit, or logit / temperature + noise on an unfiltered random row. Rows that are not filtered
   * write entry 0 alone; filtered rows pad with -inf and NO_TOKEN.
   */
  entries: 2,
} as const;
