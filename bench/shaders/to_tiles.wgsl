// to_tiles: rows of a weight as tiles of 16 rows x 16 of k, 512 bytes each, k fastest:
// t[row / 16][k / 16][row % 16][k % 16] = w[row, k]
//
// Shapes    w: [rows, in] f16   t: [rows / 16, in / 16, 16, 16] f16   rows, in: multiples of 16
// Dispatch  (x + y * num_groups.x: workgroups of WG_SIZE chunks of 8 halves)
// Accuracy  exact
override WG_SIZE: u32 = 256;

struct Params { num_rows: u32, num_chunks: u32 } // chunks of 8 halves in a row
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> w: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> t: array<vec4u>;

@compute @workgroup_size(WG_SIZE)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) num_groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.x + group.y * num_groups.x) * WG_SIZE + lane;
  if (i >= params.num_rows * params.num_chunks) { return; }
  let row = i / params.num_chunks;
  let chunk = i % params.num_chunks;
  let tile = row / 16u * (params.num_chunks / 2u) + chunk / 2u;
  t[tile * 32u + row % 16u * 2u + chunk % 2u] = w[i];
}
