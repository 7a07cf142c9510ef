// pick_filtered: the sampled token of each filtered row, from the candidates of all slices of the
// vocabulary: min-p, top-k, then top-p over what those two leave, then Gumbel-max
// A row whose 64 candidates cannot decide gets no token but its own number in full_rows.
//
// Shapes    rows: [max_samples, 12]    lists: [num_lists, max_samples, 130] (candidateLayout.ts)
//           sampled_ids, full_rows: [max_samples] u32    last_token: [max_seqs] u32
// Dispatch  (num_samples, 1, 1): one workgroup a sample; only filtered rows do work
// Accuracy  ids equal those of test/oracles/sampling.ts but for near-ties (lib/random.wgsl) and
//           prefixes whose mass is within 1e-5 of top-p
// Includes  those of sampling/merge_lists.wgsl
override WG_SIZE: u32 = 256; // lanes a workgroup; power of two, at least 64
// True where the host has filled full_rows from needsFullRow(); its word stands, so that rounding
// cannot leave a row without a token.
override HOST_DECIDES: bool = false;

struct Params { num_lists: u32, max_samples: u32, lanes: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> rows: array<u32>;
@group(1) @binding(2) var<storage, read> lists: array<u32>;
@group(1) @binding(3) var<storage, read_write> sampled_ids: array<u32>;
@group(1) @binding(4) var<storage, read_write> last_token: array<u32>;
@group(1) @binding(5) var<storage, read_write> full_rows: array<u32>;

const NEEDS_FULL: u32 = 0xffffffffu;
var<workgroup> weights: array<f32, MAX_CANDIDATES>; // relative to the likeliest token
var<workgroup> top_key: u32;
var<workgroup> num_kept: u32;

// How many of the sorted candidates survive the filters, or NEEDS_FULL.
// needsFullRow.ts takes the same decision on the host.
fn count_kept(row: u32, total_mass: f32, num_vocab: u32) -> u32 {
  let top_k = rows[row + ROW_TOP_K];
  let top_p = bitcast<f32>(rows[row + ROW_TOP_P]);
  let min_p = bitcast<f32>(rows[row + ROW_MIN_P]);
  let limit = select(MAX_CANDIDATES, min(top_k, MAX_CANDIDATES), top_k > 0u);
  var kept = 1u; // min-p keeps the likeliest
  var kept_mass = weights[0];
  while (kept < limit && weights[kept] > 0.0 && weights[kept] >= min_p) {
    kept_mass += weights[kept];
    kept += 1u;
  }
  let all_listed = num_vocab <= MAX_CANDIDATES || (top_k > 0u && top_k <= MAX_CANDIDATES);
  let complete = kept < limit || all_listed; // no token outside the list passes min-p and top-k
  let knows_total = complete || (top_k == 0u && min_p <= 0.0);
  if (!HOST_DECIDES && !knows_total) { return NEEDS_FULL; }
  if (top_p < 1.0) {
    let wanted = top_p * select(total_mass, kept_mass, complete);
    var mass = 0.0;
    for (var i = 0u; i < kept; i += 1u) {
      mass += weights[i];
      if (mass >= wanted) { return i + 1u; }
    }
  }
  return select(NEEDS_FULL, kept, complete || HOST_DECIDES);
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let sample = group.x;
  let row = sample * ROW_WORDS;
  if (!is_filtered(rows[row + ROW_FLAGS])) { return; }
  let temperature = bitcast<f32>(rows[row + ROW_TEMPERATURE]);
  let pair = merged_entry(sample, lane);
  if (lane == 0u) { top_key = pair.x; }
  workgroupBarrier();
  if (lane < MAX_CANDIDATES) { weights[lane] = relative_weight(pair.x, top_key, temperature); }
  let mass = merged_mass(sample, top_key, temperature, lane); // ends with a barrier
  if (lane == 0u) { num_kept = count_kept(row, mass, merged_size(sample)); }
  let kept = workgroupUniformLoad(&num_kept);
  var scored = NO_PAIR;
  if (lane < min(kept, MAX_CANDIDATES)) {
    let noise = token_noise(rows[row + ROW_SEED], rows[row + ROW_POSITION], pair.y);
    scored = vec2u(draw_key(pair.x, temperature, noise), pair.y);
  }
  let best = block_best(scored, lane);
  if (lane != 0u) { return; }
  var needs_full = kept == NEEDS_FULL;
  if (HOST_DECIDES) { needs_full = full_rows[sample] != NO_TOKEN; }
  else { full_rows[sample] = select(NO_TOKEN, sample, needs_full); }
  if (!needs_full) {
    sampled_ids[sample] = best.y;
    last_token[rows[row + ROW_SLOT]] = best.y;
  }
}
