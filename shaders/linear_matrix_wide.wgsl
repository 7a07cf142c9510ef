// linear_matrix_wide: y[s, t, n] = sum over part s of k of x[t, k] * w[n, k] on tensor cores, for batched
// decode; with swiglu y[t, n] = silu(g) * u, where g and u are the sums of rows n and num_outputs + n.
//
// Shapes    x: [tokens, in] f16 in tiles   w: [rows, in] f32|f16|bf16   y: [SPLITS, SPLIT_ROWS, out_stride] f32, or
//           f16 in tiles; tokens of x is a multiple of 32; rows past the live ones hold anything
// Dispatch  (SPLITS for each 32 tokens, workgroups of ROWS rows in y and z): those that read the same rows are
//           neighbours, so that a GPU's processors look few pages up
// Tile      32 tokens x ROWS rows x 64 of k, a subgroup a quarter of the rows; they share the activations, so
//           that the L2 cache serves fewer bytes of them than of weights. What takes the time is reading w, so
//           two slices of k are on their way to registers while a third is multiplied. Where the rows are
//           few, k is cut into SPLITS, whose sums the next kernel adds. Workgroup memory is kept small:
//           see docs/performance.md, "Workgroup memory"
// Accuracy  f16 products (weights of other dtypes are rounded to f16), f32 sums; see
//           test/kernels/linearMatrix.gpu.test.ts
// Includes  lib/live.wgsl, lib/silu.wgsl, lib/linear_io.wgsl, lib/linear_common.wgsl, lib/tiles.wgsl,
//           lib/linear_store.wgsl, lib/linear_out_*.wgsl, lib/linear_tile.wgsl, lib/linear_slice.wgsl,
//           lib/linear_four.wgsl, lib/linear_sums.wgsl, lib/halves_*.wgsl
// Needs     subgroups of 32; matrices of f16, 16 x 16 x 16, with f32 results
// Prelude   const ROWS (64 or 128), SPLITS, SPLIT_ROWS
override DIRECT: bool; // whole tiles and no epilogue: results go straight to y
override EVEN: bool;   // the slices of each part of k are even in number

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sums = subgroup_matrix_result<f32, 16, 16>;

const TOKENS = 32u;
const HALF_TILE = ROWS / 2u;
const SUBGROUP_ROWS = ROWS / 4u;
const LANES = 128u;
const CHUNKS = 8u;   // of 8 halves: 64 of k
const STRIDE = 9u;   // of a row in workgroup memory, in chunks
const W_TILE = TOKENS * STRIDE;
const SUM_STRIDE = ROWS / 4u + 1u; // of a token's sums, in vec4, against bank conflicts
const LANE_ROWS = LANES / CHUNKS;  // rows of a tile that the lanes load at once
const STEP = SPLITS * CHUNKS;      // from a slice of this part of k to the next

// x tile, then w tile; afterwards the sums
var<workgroup> tiles: array<vec4u, (TOKENS + ROWS) * STRIDE>;

// What a lane brings chunks of: rows of w, and tokens; see x_chunk.
struct LaneRows { low: vec4u, high: vec4u, tokens: u32 }

// A lane's chunks of a slice; `high` with 128 rows only.
struct Slice { x_low: vec4u, x_high: vec4u, low: Four, high: Four }

fn load_x(at: u32) -> vec4u { return bitcast<vec4u>(x[at]); } // finite halves are no NaN as f32

fn load_slice(lane_rows: LaneRows, k: u32, lane: u32) -> Slice {
  let chunk = chunk_of(k, lane);
  var slice: Slice;
  slice.low = load_four(lane_rows.low, chunk);
  if (ROWS > 64u) { slice.high = load_four(lane_rows.high, chunk); }
  let at = x_chunk(lane_rows.tokens, k, lane);
  slice.x_low = load_x(at);
  slice.x_high = load_x(at + 16u * params.num_chunks); // 16 tokens on
  return slice;
}

fn store_slice(slice: Slice, k: u32, lane: u32) {
  let place = lane / CHUNKS * STRIDE + lane % CHUNKS;
  let is_inside = k + lane % CHUNKS < params.num_chunks;
  store_four_rows(place + W_TILE, slice.low, is_inside);
  if (ROWS > 64u) { store_four_rows(place + W_TILE + 4u * LANE_ROWS * STRIDE, slice.high, is_inside); }
  store_chunk(x_place(lane), slice.x_low, is_x_inside(k, lane));
  store_chunk(x_place(lane) + 16u * STRIDE, slice.x_high, is_x_inside(k, lane));
}

fn left(row: u32, step: u32) -> Left {
  return subgroupMatrixLoad<Left, row_major>(&tiles, row * STRIDE + step, STRIDE);
}

fn right(row: u32, step: u32) -> Right {
  return subgroupMatrixLoad<Right, col_major>(&tiles, W_TILE + row * STRIDE + step, STRIDE);
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) num_groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  let split = group.x % SPLITS;
  let first_token = group.x / SPLITS * TOKENS;
  let outputs_per_group = select(ROWS, HALF_TILE, params.is_swiglu != 0u);
  let first_output = (group.y + group.z * num_groups.y) * outputs_per_group;
  let row = lane / CHUNKS;
  let lane_rows = LaneRows(
    weight_rows(first_output, row),
    weight_rows(first_output, row + 4u * LANE_ROWS),
    first_token * params.num_chunks,
  );
  let n = subgroup * SUBGROUP_ROWS;

  var c00: Sums;
  var c01: Sums;
  var c10: Sums;
  var c11: Sums;
  let begin = split * CHUNKS;
  var even = load_slice(lane_rows, begin, lane);
  var odd = load_slice(lane_rows, begin + STEP, lane);
  for (var k = begin; k < params.num_chunks; k += 2u * STEP) {
    store_slice(even, k, lane);
    even = load_slice(lane_rows, k + 2u * STEP, lane);
    workgroupBarrier();
    for (var step = 0u; step < CHUNKS; step += 2u) {
      let a0 = left(0u, step);
      let a1 = left(16u, step);
      let b0 = right(n, step);
      c00 = subgroupMatrixMultiplyAccumulate(a0, b0, c00);
      c10 = subgroupMatrixMultiplyAccumulate(a1, b0, c10);
      if (ROWS > 64u) {
        let b1 = right(n + 16u, step);
        c01 = subgroupMatrixMultiplyAccumulate(a0, b1, c01);
        c11 = subgroupMatrixMultiplyAccumulate(a1, b1, c11);
      }
    }
    workgroupBarrier();
    if (!EVEN && k + STEP >= params.num_chunks) { break; }
    store_slice(odd, k + STEP, lane);
    odd = load_slice(lane_rows, k + 3u * STEP, lane);
    workgroupBarrier();
    for (var step = 0u; step < CHUNKS; step += 2u) {
      let a0 = left(0u, step);
      let a1 = left(16u, step);
      let b0 = right(n, step);
      c00 = subgroupMatrixMultiplyAccumulate(a0, b0, c00);
      c10 = subgroupMatrixMultiplyAccumulate(a1, b0, c10);
      if (ROWS > 64u) {
        let b1 = right(n + 16u, step);
        c01 = subgroupMatrixMultiplyAccumulate(a0, b1, c01);
        c11 = subgroupMatrixMultiplyAccumulate(a1, b1, c11);
      }
    }
    workgroupBarrier();
  }

  if (DIRECT) {
    let stride = params.out_stride;
    let at = (split * SPLIT_ROWS + first_token) * stride + params.out_offset + first_output + n;
    subgroupMatrixStore<row_major>(&y, at, c00, stride);
    subgroupMatrixStore<row_major>(&y, at + 16u * stride, c10, stride);
    if (ROWS > 64u) {
      subgroupMatrixStore<row_major>(&y, at + 16u, c01, stride);
      subgroupMatrixStore<row_major>(&y, at + 16u * stride + 16u, c11, stride);
    }
    return;
  }
  subgroupMatrixStore<row_major>(&tiles, n / 4u, c00, SUM_STRIDE);
  subgroupMatrixStore<row_major>(&tiles, n / 4u + 16u * SUM_STRIDE, c10, SUM_STRIDE);
  if (ROWS > 64u) {
    subgroupMatrixStore<row_major>(&tiles, n / 4u + 4u, c01, SUM_STRIDE);
    subgroupMatrixStore<row_major>(&tiles, n / 4u + 16u * SUM_STRIDE + 4u, c11, SUM_STRIDE);
  }
  workgroupBarrier();
  store_sums(first_token, TOKENS, split * SPLIT_ROWS + first_token, ROWS, first_output, lane);
}
