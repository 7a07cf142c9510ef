// bias_logits: in place, logits[row, id] += bias, for the entries of the step's table
//   a bias of -inf bans the token, whatever its logit
//
// Shapes    entries: [max_entries, 3] u32 = (row, id within the slice, f32 bits of the bias); no
//           (row, id) occurs twice
//           logits: [max_samples, num_vocab] f32
// Dispatch  (ceil(num_biased / WG_SIZE), 1, 1): one lane an entry
// Accuracy  exact; -inf and NaN are left alone
// Includes  lib/live.wgsl, lib/sort_key.wgsl
override WG_SIZE: u32 = 256; // lanes a workgroup

struct Params { num_vocab: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> entries: array<u32>;
@group(1) @binding(2) var<storage, read_write> logits: array<u32>;

const NEG_INF_BITS: u32 = 0xff800000u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let entry = group.x * WG_SIZE + lane;
  if (entry >= live.num_biased) { return; }
  let at = entries[3u * entry] * params.num_vocab + entries[3u * entry + 1u];
  let bias = entries[3u * entry + 2u];
  if (bias == NEG_INF_BITS) {
    logits[at] = NEG_INF_BITS;
    return;
  }
  let bits = logits[at];
  if (sort_key(bits) <= NEG_INF_KEY) { return; }
  logits[at] = bitcast<u32>(bitcast<f32>(bits) + bitcast<f32>(bias));
}
