// embedding: y[t, i] = w[id(t), i], where id(t) = token_ids[t], or last_token[slot] if bit 31 of
// token_ids[t] says that its low bits are a slot. Tokens whose id is not among the rows of this
// part of the table are left to the part that has it.
//
// Shapes    token_ids: [num_tokens] u32   last_token: [num_slots] u32   y: [num_tokens, hidden] f32
//           w: [num_rows, hidden] f32|f16|bf16, rows first_row to first_row + num_rows of the table
// Dispatch  (hidden / 8 / WG_SIZE rounded up, num_tokens, 1): a lane eight elements
// Accuracy  exact
// Includes  lib/weights_*.wgsl
override WG_SIZE: u32 = 64;
const SLOT_BIT = 0x80000000u;

struct Params {
  num_chunks: u32, // hidden / 8
  first_row: u32,
  num_rows: u32,
  num_slots: u32,
}
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> token_ids: array<u32>;
@group(1) @binding(2) var<storage, read> last_token: array<u32>;
@group(1) @binding(3) var<storage, read> w: array<vec4u>;
@group(1) @binding(4) var<storage, read_write> y: array<vec4f>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= params.num_chunks) { return; }
  var token = token_ids[id.y];
  if ((token & SLOT_BIT) != 0u) {
    token = last_token[min(token & ~SLOT_BIT, params.num_slots - 1u)];
  }
  let row = token - params.first_row; // wraps below first_row, and is too large then as well
  if (row >= params.num_rows) { return; }
  let weights = load_weights(row * params.num_chunks + id.x);
  let at = 2u * (id.y * params.num_chunks + id.x);
  y[at] = weights.lo;
  y[at + 1u] = weights.hi;
}
