// convert: y[i] = x[i] in another dtype, rounded to nearest, ties to even
//
// Shapes    x, y: [8 * chunks] f32, f16 or bf16
// Dispatch  ceil(chunks / WG_SIZE) workgroups in x and y; a lane converts eight elements
// Accuracy  correctly rounded (f16: as the adapter's pack2x16float)
// Includes  lib/weights_*.wgsl, lib/store8_*.wgsl
override WG_SIZE: u32 = 256; // lanes a workgroup

struct Params { chunks: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> w: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4u>;

@compute @workgroup_size(WG_SIZE)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) num_groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let chunk = (group.x + group.y * num_groups.x) * WG_SIZE + lane;
  if (chunk < params.chunks) { store_weights(chunk, load_weights(chunk)); }
}
