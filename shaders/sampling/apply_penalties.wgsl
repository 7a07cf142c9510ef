// apply_penalties: in place, for rows with penalties
//   repetition: logit / r where logit > 0, else logit * r, for tokens of prompt or completion
//   then logit -= frequency * count + presence, for tokens of the completion
//
// Shapes    rows: [max_samples, 12]    counts: [max_seqs, num_vocab] (token_counts.wgsl)
//           logits: [max_samples, num_vocab] f32
// Dispatch  (ceil(num_vocab / (WG_SIZE * 4)), num_samples, 1)
// Accuracy  rtol 1e-6 against test/oracles/sampling.ts; -inf stays -inf
// Source    vLLM's apply_penalties, vllm/model_executor/layers/utils.py
override WG_SIZE: u32 = 256; // lanes a workgroup

struct Params { num_vocab: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> rows: array<u32>;
@group(1) @binding(2) var<storage, read> counts: array<u32>;
@group(1) @binding(3) var<storage, read_write> logits: array<u32>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.y * ROW_WORDS;
  if ((rows[row + ROW_FLAGS] & FLAG_PENALTIES) == 0u) { return; }
  let repetition = bitcast<f32>(rows[row + ROW_REPETITION]);
  let presence = bitcast<f32>(rows[row + ROW_PRESENCE]);
  let frequency = bitcast<f32>(rows[row + ROW_FREQUENCY]);
  let seen_start = rows[row + ROW_SLOT] * params.num_vocab;
  let start = group.y * params.num_vocab;
  let end = min((group.x + 1u) * WG_SIZE * 4u, params.num_vocab);
  for (var i = group.x * WG_SIZE * 4u + lane; i < end; i += WG_SIZE) {
    let seen = counts[seen_start + i];
    let bits = logits[start + i];
    if (seen == 0u || sort_key(bits) <= NEG_INF_KEY) { continue; }
    var logit = bitcast<f32>(bits);
    logit = select(logit * repetition, logit / repetition, logit > 0.0);
    let count = seen & 0x7fffffffu;
    if (count > 0u) { logit = logit - frequency * f32(count) - presence; }
    logits[start + i] = bitcast<u32>(logit);
  }
}
