// embedding: y[t] = w[id(t) - first_row] where first_row <= id(t) < first_row + num_rows
//            id(t) = last_token[ids[t] & 0x7fffffff] if bit 31 of ids[t] is set, else ids[t]
//
// Shapes    ids: [num_tokens] u32    last_token: [max_num_seqs] u32
//           w: [num_rows, 8 * chunks] f32, f16 or bf16    y: [num_tokens, 8 * chunks] f32
// Dispatch  (num_tokens, 1, 1): one workgroup a token, a lane takes eight elements at a time
// Accuracy  exact
// Includes  lib/weights_*.wgsl
override WG_SIZE: u32 = 64; // lanes a workgroup

struct Params { chunks: u32, first_row: u32, num_rows: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> last_token: array<u32>;
@group(0) @binding(3) var<storage, read> w: array<vec4u>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4f>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  var id = ids[group.x];
  if (id >= 0x80000000u) { id = last_token[id & 0x7fffffffu]; }
  if (id < params.first_row || id >= params.first_row + params.num_rows) { return; }
  let from_chunk = (id - params.first_row) * params.chunks;
  let to_chunk = group.x * params.chunks;
  for (var i = lane; i < params.chunks; i += WG_SIZE) {
    let eight = load_weights(from_chunk + i);
    y[2u * (to_chunk + i)] = eight.lo;
    y[2u * (to_chunk + i) + 1u] = eight.hi;
  }
}
