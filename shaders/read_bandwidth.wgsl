// read_bandwidth: out[g] = the wrapping sum of the words that workgroup g reads
//
// Shapes    x: [4 * num_quads] u32    out: [number of workgroups] u32
// Dispatch  one workgroup for WG_SIZE * LOADS vec4<u32>, in x and y; lanes read neighbouring vec4s
// Prelude   const LOADS: vec4<u32> a lane reads
override WG_SIZE: u32 = 256;

struct Params { num_quads: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> x: array<vec4u>;
@group(1) @binding(2) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(WG_SIZE)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) num_groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let index = group.x + group.y * num_groups.x;
  let first = index * WG_SIZE * LOADS;
  if (first >= params.num_quads) { return; }
  var sum = vec4u();
  for (var i = 0u; i < LOADS; i++) {
    let at = first + i * WG_SIZE + lane;
    if (at < params.num_quads) { sum += x[at]; }
  }
  // Every lane's sum is needed for the result to be used; only a rare value is written, so that
  // the write costs nothing and the reads cannot be optimised away.
  let folded = sum.x ^ sum.y ^ sum.z ^ sum.w;
  if (folded == 0x5bd1e995u || lane == 0u) { out[index] = folded; }
}
