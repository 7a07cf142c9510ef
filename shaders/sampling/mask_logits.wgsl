// mask_logits: in place, logits[row, id] = -inf where the row has a mask without the bit of id
//
// Shapes    rows: [max_samples, 12]; ROW_MASK is 0 for no mask, else 1 + its row of masks
//           masks: [max_masks, mask_words] u32; bit id % 32 of word id / 32, id within the slice
//           logits: [max_samples, num_vocab] f32
// Dispatch  (ceil(num_vocab / (WG_SIZE * 4)), num_samples, 1)
// Accuracy  exact
// Includes  lib/sort_key.wgsl, lib/random.wgsl, sampling/sampling_row.wgsl
override WG_SIZE: u32 = 256; // lanes a workgroup

struct Params { num_vocab: u32, mask_words: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> rows: array<u32>;
@group(1) @binding(2) var<storage, read> masks: array<u32>;
@group(1) @binding(3) var<storage, read_write> logits: array<u32>;

const NEG_INF_BITS: u32 = 0xff800000u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let mask = rows[group.y * ROW_WORDS + ROW_MASK];
  if (mask == 0u) { return; }
  let mask_start = (mask - 1u) * params.mask_words;
  let start = group.y * params.num_vocab;
  let end = min((group.x + 1u) * WG_SIZE * 4u, params.num_vocab);
  for (var id = group.x * WG_SIZE * 4u + lane; id < end; id += WG_SIZE) {
    let is_allowed = ((masks[mask_start + id / 32u] >> (id % 32u)) & 1u) == 1u;
    if (!is_allowed) { logits[start + id] = NEG_INF_BITS; }
  }
}
