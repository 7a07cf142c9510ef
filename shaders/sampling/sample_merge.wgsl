// sample_merge: the lists of a rank's chunks as one list, the rank's candidates
//
// Shapes    rows: [max_samples, 12]    lists: [num_lists, max_samples, 130]
//           candidates: [max_samples, 130] (candidateLayout.ts)
// Dispatch  (num_samples, 1, 1): one workgroup a sample
// Accuracy  entries exact; mass rtol 1e-5 against test/oracles/sampling.ts
// Includes  those of sampling/merge_lists.wgsl
override WG_SIZE: u32 = 256; // lanes a workgroup; power of two, at least 64

struct Params { num_lists: u32, max_samples: u32, lanes: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> rows: array<u32>;
@group(1) @binding(2) var<storage, read> lists: array<u32>;
@group(1) @binding(3) var<storage, read_write> candidates: array<u32>;

var<workgroup> top_key: u32;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let sample = group.x;
  let row = sample * ROW_WORDS;
  let filtered = is_filtered(rows[row + ROW_FLAGS]);
  var pair = NO_PAIR;
  var mass = 0.0;
  if (filtered) {
    pair = merged_entry(sample, lane);
    if (lane == 0u) { top_key = pair.x; }
    workgroupBarrier();
    mass = merged_mass(sample, top_key, bitcast<f32>(rows[row + ROW_TEMPERATURE]), lane);
  } else {
    pair = merged_best(sample, lane);
  }
  let out = sample * LIST_WORDS;
  if (lane == 0u) {
    candidates[out + LIST_MASS] = bitcast<u32>(mass);
    candidates[out + LIST_SIZE] = merged_size(sample);
  }
  if (lane == 0u || (filtered && lane < MAX_CANDIDATES)) {
    candidates[out + LIST_ENTRIES + 2u * lane] = key_bits(pair.x);
    candidates[out + LIST_ENTRIES + 2u * lane + 1u] = pair.y;
  }
}
