// token_counts: notes the tokens that a step feeds to sequences with penalties
//   counts[slot, id]: bit 31 = the prompt holds the token, low 31 bits = times the completion does
//
// Shapes    parts: [max_seqs, 4] = (slot, first row of token_ids, number of tokens,
//           number of leading prompt tokens | bit 31: a new sequence, clear its counts first)
//           token_ids: [max_tokens] u32, bit 31 set: the low bits are a slot of last_token
//           last_token: [max_seqs] u32    counts: [max_seqs, num_vocab] u32
// Dispatch  (num_penalized, 1, 1): one workgroup a part; no slot occurs in two parts
// Accuracy  exact
override WG_SIZE: u32 = 256; // lanes a workgroup

struct Params { num_vocab: u32, first_token_id: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> parts: array<vec4u>;
@group(1) @binding(2) var<storage, read> token_ids: array<u32>;
@group(1) @binding(3) var<storage, read> last_token: array<u32>;
@group(1) @binding(4) var<storage, read_write> counts: array<atomic<u32>>;

const HIGH_BIT: u32 = 0x80000000u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let part = parts[group.x];
  let start = part.x * params.num_vocab;
  if ((part.w & HIGH_BIT) != 0u) {
    for (var i = lane; i < params.num_vocab; i += WG_SIZE) { atomicStore(&counts[start + i], 0u); }
    storageBarrier();
  }
  let num_prompt = part.w & ~HIGH_BIT;
  for (var i = lane; i < part.z; i += WG_SIZE) {
    var id = token_ids[part.y + i];
    if ((id & HIGH_BIT) != 0u) { id = last_token[id & ~HIGH_BIT]; }
    let local = id - params.first_token_id; // wraps below the range, so it fails the test too
    if (local >= params.num_vocab) { continue; }
    if (i < num_prompt) { atomicOr(&counts[start + local], HIGH_BIT); }
    else { atomicAdd(&counts[start + local], 1u); }
  }
}
