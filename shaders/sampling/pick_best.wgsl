// pick_best: the sampled token of each greedy or unfiltered row: the best of all slices' entries
//
// Shapes    rows: [max_samples, 12]    lists: [num_lists, max_samples, 130] (candidateLayout.ts)
//           sampled_ids, full_rows: [max_samples] u32    last_token: [max_seqs] u32
// Dispatch  (num_samples, 1, 1): one workgroup a sample; filtered rows are left alone
// Accuracy  exact
// Includes  lib/sort_key.wgsl, lib/random.wgsl, lib/block_best.wgsl, sampling/sampling_row.wgsl,
//           sampling/candidate_list.wgsl, sampling/merge_best.wgsl
override WG_SIZE: u32 = 32; // lanes a workgroup; power of two

struct Params { num_lists: u32, max_samples: u32, lanes: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> rows: array<u32>;
@group(1) @binding(2) var<storage, read> lists: array<u32>;
@group(1) @binding(3) var<storage, read_write> sampled_ids: array<u32>;
@group(1) @binding(4) var<storage, read_write> last_token: array<u32>;
@group(1) @binding(5) var<storage, read_write> full_rows: array<u32>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let sample = group.x;
  let row = sample * ROW_WORDS;
  if (is_filtered(rows[row + ROW_FLAGS])) { return; }
  let best = merged_best(sample, lane);
  if (lane != 0u) { return; }
  full_rows[sample] = NO_TOKEN;
  sampled_ids[sample] = best.y;
  last_token[rows[row + ROW_SLOT]] = best.y;
}
