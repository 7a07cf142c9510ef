// linear_matrix_wide: y[s, t, n] = sum over part s of k of x[t, k] * w[n, k] on tensor cores, for batched
// decode; with swiglu y[t, n] = silu(g) * u, where g and u are the sums of rows n and num_outputs + n.
//
// Shapes    x: [tokens, in] f16   w: [rows, in] f32|f16|bf16   y: [SPLITS, SPLIT_ROWS, out_stride] f32|f16
//           tokens of x is a multiple of 32; rows past the live ones hold anything
// Dispatch  (workgroups of 128 rows in x and y, SPLITS for each 32 tokens in z)
// Tile      32 tokens x 128 rows x 64 of k, a subgroup each 16 rows: the eight share the activations, so
//           that the L2 cache serves a quarter as many bytes of them as of weights. Loads do not stay in
//           flight over a barrier, so what hides their latency is other workgroups: where the rows are
//           few, k is cut into SPLITS, whose sums the next kernel adds
// Accuracy  f16 products (weights of other dtypes are rounded to f16), f32 sums; see
//           test/kernels/linearMatrix.gpu.test.ts
// Includes  lib/live.wgsl, lib/silu.wgsl, lib/linear_io.wgsl, lib/linear_common.wgsl,
//           lib/linear_store.wgsl, lib/linear_out_*.wgsl, lib/linear_tile.wgsl, lib/linear_slice.wgsl, lib/stagger.wgsl,
//           lib/halves_*.wgsl
// Needs     subgroups of 32; matrices of f16, 16 x 16 x 16, with f32 results
// Prelude   const SPLITS, SPLIT_ROWS

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;

const TOKENS = 32u;
const ROWS = 128u;
const HALF_TILE = 64u;
const LANES = 256u;
const CHUNKS = 8u;   // of 8 halves: 64 of k
const STRIDE = 9u;   // of a row in workgroup memory, in chunks
const W_TILE = TOKENS * STRIDE;
const SUM_STRIDE = ROWS / 4u + 1u; // of a token's sums, in vec4, against bank conflicts
const LANE_ROWS = LANES / CHUNKS; // rows of a tile that the lanes load at once

// x tile, then w tile; afterwards the sums
var<workgroup> tiles: array<vec4u, (TOKENS + ROWS) * STRIDE>;

struct Four { a: Raw, b: Raw, c: Raw, d: Raw }

fn load_x(row: u32, chunk: u32) -> vec4u {
  // finite halves are no NaN as f32
  return bitcast<vec4u>(x[row * params.num_chunks + chunk]);
}

fn load_w(rows: vec4u, chunk: u32) -> Four {
  let at = rows + chunk;
  return Four(load_raw(at.x), load_raw(at.y), load_raw(at.z), load_raw(at.w));
}

fn store_chunk(at: u32, halves: vec4u, is_inside: bool) {
  tiles[at] = select(vec4u(), halves, WHOLE_K || is_inside);
}

fn store_w(at: u32, four: Four, is_inside: bool) {
  store_chunk(at, halves_of(four.a), is_inside);
  store_chunk(at + LANE_ROWS * STRIDE, halves_of(four.b), is_inside);
  store_chunk(at + 2u * LANE_ROWS * STRIDE, halves_of(four.c), is_inside);
  store_chunk(at + 3u * LANE_ROWS * STRIDE, halves_of(four.d), is_inside);
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) num_groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  let split = group.z % SPLITS;
  let first_token = group.z / SPLITS * TOKENS;
  let outputs_per_group = select(ROWS, HALF_TILE, params.is_swiglu != 0u);
  let first_output = (group.x + group.y * num_groups.x) * outputs_per_group;
  let row = lane / CHUNKS;
  let place = row * STRIDE + lane % CHUNKS;
  let rows = weight_rows(first_output, row);
  let n = subgroup * 16u;

  var c0: subgroup_matrix_result<f32, 16, 16>;
  var c1: subgroup_matrix_result<f32, 16, 16>;
  var k = split * CHUNKS + first_chunk(group);
  var four = load_w(rows, chunk_of(k, lane));
  var chunk = load_x(first_token + row, chunk_of(k, lane));
  for (; k < params.num_chunks; k += SPLITS * CHUNKS) {
    let is_inside = k + lane % CHUNKS < params.num_chunks;
    store_chunk(place, chunk, is_inside);
    store_w(place + W_TILE, four, is_inside);
    workgroupBarrier();
    let next = chunk_of(k + SPLITS * CHUNKS, lane);
    four = load_w(rows, next);
    chunk = load_x(first_token + row, next);
    for (var step = 0u; step < CHUNKS; step += 2u) {
      let b = subgroupMatrixLoad<Right, col_major>(&tiles, W_TILE + n * STRIDE + step, STRIDE);
      let a0 = subgroupMatrixLoad<Left, row_major>(&tiles, step, STRIDE);
      let a1 = subgroupMatrixLoad<Left, row_major>(&tiles, step + 16u * STRIDE, STRIDE);
      c0 = subgroupMatrixMultiplyAccumulate(a0, b, c0);
      c1 = subgroupMatrixMultiplyAccumulate(a1, b, c1);
    }
    workgroupBarrier();
  }

  subgroupMatrixStore<row_major>(&tiles, n / 4u, c0, SUM_STRIDE);
  subgroupMatrixStore<row_major>(&tiles, n / 4u + 16u * SUM_STRIDE, c1, SUM_STRIDE);
  workgroupBarrier();
  let is_swiglu = params.is_swiglu != 0u;
  let quads = select(ROWS, HALF_TILE, is_swiglu) / 4u;
  let num_tokens = min(TOKENS, live_rows() - min(first_token, live_rows()));
  for (var i = lane; i < num_tokens * quads; i += LANES) {
    // four neighbouring sums of a token; with swiglu the up rows' sums lie HALF_TILE further
    let at = i / quads * SUM_STRIDE + i % quads;
    var ups = vec4f();
    if (is_swiglu) { ups = bitcast<vec4f>(tiles[at + HALF_TILE / 4u]); }
    let token = split * SPLIT_ROWS + first_token + i / quads;
    store_four(token, first_output + i % quads * 4u, bitcast<vec4f>(tiles[at]), ups);
  }
}
