// to_halves: y[t, i] = x[t, i] as f16 in tiles, clamped to the finite ones, two to a u32
//
// Shapes    x: [tokens, 8 * chunks] f32    y: [tokens, 8 * chunks] f16 in tiles
// Dispatch  ceil(tokens * chunks / WG_SIZE) workgroups in x and y: a lane converts eight elements
// Accuracy  rounded as pack2x16float does
// Includes  lib/live.wgsl, lib/tiles.wgsl
override WG_SIZE: u32 = 256;

struct Params { num_chunks: u32, rows_are_samples: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> x: array<vec4f>;
@group(1) @binding(2) var<storage, read_write> y: array<vec4u>;

@compute @workgroup_size(WG_SIZE)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) num_groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let rows = select(live.num_tokens, live.num_samples, params.rows_are_samples != 0u);
  let chunk = (group.x + group.y * num_groups.x) * WG_SIZE + lane;
  if (chunk >= rows * params.num_chunks) { return; }
  let at = tiled_chunk(chunk / params.num_chunks, chunk % params.num_chunks, params.num_chunks);
  y[at] = vec4u(finite_halves(x[2u * chunk]), finite_halves(x[2u * chunk + 1u]));
}
