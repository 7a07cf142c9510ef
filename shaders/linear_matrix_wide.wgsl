// linear_matrix_wide: y[s, t, n] = sum over part s of k of x[t, k] * w[n, k] on tensor cores, for batched
// decode; with swiglu y[t, n] = silu(g) * u, where g and u are the sums of rows n and num_outputs + n.
//
// Shapes    x: [tokens, in] f16   w: [rows, in] f32|f16|bf16   y: [SPLITS, SPLIT_ROWS, out_stride] f32|f16
//           tokens of x is a multiple of 32; rows past the live ones hold anything
// Dispatch  (workgroups of 128 rows in x and y, SPLITS for each 32 tokens in z)
// Tile      32 tokens x 128 rows x 64 of k, a subgroup each 32 rows: the four share the activations, so
//           that the L2 cache serves a quarter as many bytes of them as of weights. Loads do not stay in
//           flight over a barrier, so what hides their latency is other workgroups: where the rows are
//           few, k is cut into SPLITS, whose sums the next kernel adds
// Accuracy  f16 products (weights of other dtypes are rounded to f16), f32 sums; see
//           test/kernels/linearMatrix.gpu.test.ts
// Includes  lib/live.wgsl, lib/silu.wgsl, lib/linear_io.wgsl, lib/linear_common.wgsl,
//           lib/linear_store.wgsl, lib/linear_out_*.wgsl, lib/linear_tile.wgsl, lib/halves_*.wgsl
// Needs     subgroups of 32; matrices of f16, 16 x 16 x 16, with f32 results
// Prelude   const SPLITS, SPLIT_ROWS
const TOKENS = 32u;
const ROWS = 128u;
const HALF_TILE = 64u;
const LANES = 128u;
const CHUNKS = 8u;   // of 8 halves: 64 of k
const STRIDE = 9u;   // of a row in workgroup memory, in chunks
const W_TILE = TOKENS * STRIDE;
const SUM_STRIDE = ROWS / 4u; // of a token's sums, in vec4
const LANE_ROWS = LANES / CHUNKS; // rows of a tile that the lanes load at once

// x tile, then w tile; afterwards the sums
var<workgroup> tiles: array<vec4u, (TOKENS + ROWS) * STRIDE>;

fn weight_rows(first_output: u32, row: u32) -> vec4u {
  return params.num_chunks * vec4u(
    weight_row(first_output, row),
    weight_row(first_output, row + LANE_ROWS),
    weight_row(first_output, row + 2u * LANE_ROWS),
    weight_row(first_output, row + 3u * LANE_ROWS),
  );
}

struct Four { a: Raw, b: Raw, c: Raw, d: Raw }

// Loads never branch: past the end of k they repeat the last chunk, which store_chunk makes zero.
fn inside(chunk: u32) -> u32 { return min(chunk, params.num_chunks - 1u); }

fn load_x(row: u32, chunk: u32) -> vec4u {
  // finite halves are no NaN as f32
  return bitcast<vec4u>(x[row * params.num_chunks + inside(chunk)]);
}

fn load_w(rows: vec4u, chunk: u32) -> Four {
  let at = rows + inside(chunk);
  return Four(load_raw(at.x), load_raw(at.y), load_raw(at.z), load_raw(at.w));
}

fn store_chunk(at: u32, halves: vec4u, is_inside: bool) {
  tiles[at] = select(vec4u(), halves, is_inside);
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
  let rows0 = weight_rows(first_output, row);
  let rows1 = weight_rows(first_output, row + 4u * LANE_ROWS);
  let n = subgroup * 32u;

  var c00: subgroup_matrix_result<f32, 16, 16>;
  var c01: subgroup_matrix_result<f32, 16, 16>;
  var c10: subgroup_matrix_result<f32, 16, 16>;
  var c11: subgroup_matrix_result<f32, 16, 16>;
  var current = split * CHUNKS + lane % CHUNKS;
  var w0 = load_w(rows0, current);
  var w1 = load_w(rows1, current);
  var x0 = load_x(first_token + row, current);
  var x1 = load_x(first_token + row + LANE_ROWS, current);
  for (var k = split * CHUNKS; k < params.num_chunks; k += SPLITS * CHUNKS) {
    let is_inside = current < params.num_chunks;
    store_chunk(place, x0, is_inside);
    store_chunk(place + LANE_ROWS * STRIDE, x1, is_inside);
    store_w(place + W_TILE, w0, is_inside);
    store_w(place + W_TILE + 4u * LANE_ROWS * STRIDE, w1, is_inside);
    workgroupBarrier();
    current += SPLITS * CHUNKS;
    w0 = load_w(rows0, current);
    w1 = load_w(rows1, current);
    x0 = load_x(first_token + row, current);
    x1 = load_x(first_token + row + LANE_ROWS, current);
    for (var step = 0u; step < CHUNKS; step += 2u) {
      let b_at = W_TILE + n * STRIDE + step;
      let a0 = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&tiles, step, STRIDE);
      let a1 = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&tiles, step + 16u * STRIDE, STRIDE);
      let b0 = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&tiles, b_at, STRIDE);
      let b1 = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&tiles, b_at + 16u * STRIDE, STRIDE);
      c00 = subgroupMatrixMultiplyAccumulate(a0, b0, c00);
      c01 = subgroupMatrixMultiplyAccumulate(a0, b1, c01);
      c10 = subgroupMatrixMultiplyAccumulate(a1, b0, c10);
      c11 = subgroupMatrixMultiplyAccumulate(a1, b1, c11);
    }
    workgroupBarrier();
  }

  subgroupMatrixStore<row_major>(&tiles, n / 4u, c00, SUM_STRIDE);
  subgroupMatrixStore<row_major>(&tiles, n / 4u + 4u, c01, SUM_STRIDE);
  subgroupMatrixStore<row_major>(&tiles, n / 4u + 16u * SUM_STRIDE, c10, SUM_STRIDE);
  subgroupMatrixStore<row_major>(&tiles, n / 4u + 16u * SUM_STRIDE + 4u, c11, SUM_STRIDE);
  workgroupBarrier();
  for (var i = lane; i < TOKENS * SUM_STRIDE; i += LANES) {
    store_sums(first_token + i / SUM_STRIDE, split, first_output, i);
  }
}

// Four neighbouring sums of a token; with swiglu the gates' lanes take the ups along.
fn store_sums(token: u32, split: u32, first_output: u32, i: u32) {
  if (token >= live_rows()) { return; }
  let column = (i % SUM_STRIDE) * 4u;
  let is_swiglu = params.is_swiglu != 0u;
  if (is_swiglu && column >= HALF_TILE) { return; }
  let sums = bitcast<vec4f>(tiles[i]);
  var ups = vec4f();
  if (is_swiglu) { ups = bitcast<vec4f>(tiles[i + HALF_TILE / 4u]); }
  store_four(split * SPLIT_ROWS + token, first_output + column, sums, ups);
}
