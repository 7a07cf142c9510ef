// matrix_rate: products of f16 matrices, 16 x 16 x 16, with f32 sums and nothing to wait for: what
// tensor cores can reach
//
// Shapes    out: [number of workgroups, 4, 8, 256] f32
// Dispatch  any number of workgroups of 4 subgroups; a subgroup does `loops` rounds of eight
//           products on sums of their own, 65,536 operations each round
// Needs     subgroups of 32; matrices of f16, 16 x 16 x 16, with f32 results
const LANES = 128u;
const SUBGROUPS = 4u;

struct Params { loops: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read_write> out: array<f32>;

var<workgroup> tiles: array<vec4u, 192>; // six of 16 x 16 halves

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  for (var i = lane; i < 192u; i += LANES) { tiles[i] = vec4u(params.loops & 1u); } // zeros or tiny
  workgroupBarrier();
  let a0 = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&tiles, 0u, 2u);
  let a1 = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&tiles, 32u, 2u);
  let a2 = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&tiles, 64u, 2u);
  let a3 = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&tiles, 96u, 2u);
  let b0 = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&tiles, 128u, 2u);
  let b1 = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&tiles, 160u, 2u);
  var c0: subgroup_matrix_result<f32, 16, 16>;
  var c1: subgroup_matrix_result<f32, 16, 16>;
  var c2: subgroup_matrix_result<f32, 16, 16>;
  var c3: subgroup_matrix_result<f32, 16, 16>;
  var c4: subgroup_matrix_result<f32, 16, 16>;
  var c5: subgroup_matrix_result<f32, 16, 16>;
  var c6: subgroup_matrix_result<f32, 16, 16>;
  var c7: subgroup_matrix_result<f32, 16, 16>;
  for (var i = 0u; i < params.loops; i++) {
    c0 = subgroupMatrixMultiplyAccumulate(a0, b0, c0);
    c1 = subgroupMatrixMultiplyAccumulate(a0, b1, c1);
    c2 = subgroupMatrixMultiplyAccumulate(a1, b0, c2);
    c3 = subgroupMatrixMultiplyAccumulate(a1, b1, c3);
    c4 = subgroupMatrixMultiplyAccumulate(a2, b0, c4);
    c5 = subgroupMatrixMultiplyAccumulate(a2, b1, c5);
    c6 = subgroupMatrixMultiplyAccumulate(a3, b0, c6);
    c7 = subgroupMatrixMultiplyAccumulate(a3, b1, c7);
  }
  // every sum is stored, or the compiler would leave it out
  let at = (group.x * SUBGROUPS + subgroup) * 2048u;
  subgroupMatrixStore<row_major>(&out, at, c0, 16u);
  subgroupMatrixStore<row_major>(&out, at + 256u, c1, 16u);
  subgroupMatrixStore<row_major>(&out, at + 512u, c2, 16u);
  subgroupMatrixStore<row_major>(&out, at + 768u, c3, 16u);
  subgroupMatrixStore<row_major>(&out, at + 1024u, c4, 16u);
  subgroupMatrixStore<row_major>(&out, at + 1280u, c5, 16u);
  subgroupMatrixStore<row_major>(&out, at + 1536u, c6, 16u);
  subgroupMatrixStore<row_major>(&out, at + 1792u, c7, 16u);
}
