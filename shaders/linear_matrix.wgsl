// linear_matrix: y[t, n] = sum_k x[t, k] * w[n, k] + b[n] on tensor cores, where tiles are few; with swiglu
// y[t, n] = silu(g) * u, where g and u are the sums of rows n and num_outputs + n.
//
// Shapes    x: [tokens, in] f16 in tiles   w: [rows, in] f32|f16|bf16   y: [tokens, out_stride] f32, or f16 in
//           tiles; tokens of x is a multiple of 128; rows past the live ones hold anything
// Dispatch  (ceil(tokens / 128), ceil(rows / 128)): tokens vary fastest, so that the workgroups
//           that run together share their rows of w in the L2 cache
// Tile      128 tokens x 128 rows x 64 of k in 36 KiB of workgroup memory, rows 8 halves apart from
//           a power of two against bank conflicts; four subgroups of 32 lanes, 64 x 64 each, which read
//           half as much of it as 32 x 32 would. The next tile is on its way to registers while this one is
//           multiplied. Sums are named, not in arrays, which drivers keep in memory; the loop over k
//           stays a loop: unrolled by hand it was a third slower
// Accuracy  f16 products (weights of other dtypes are rounded to f16), f32 sums; see
//           test/kernels/linearMatrix.gpu.test.ts
// Includes  lib/live.wgsl, lib/silu.wgsl, lib/linear_io.wgsl, lib/linear_common.wgsl,
//           lib/linear_store.wgsl, lib/linear_out_*.wgsl, lib/linear_tile.wgsl, lib/linear_slice.wgsl, lib/linear_four.wgsl,
//           lib/linear_sums.wgsl, lib/tiles.wgsl, lib/halves_*.wgsl
// Needs     subgroups of 32; matrices of f16, 16 x 16 x 16, with f32 results
override DIRECT: bool; // whole tiles and no epilogue: results go straight to y

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sums = subgroup_matrix_result<f32, 16, 16>;

const TILE = 128u;
const CHUNKS = 8u;   // chunks of 8 halves in a tile's row: 64 of k
const STRIDE = 9u;   // of a row in workgroup memory, in chunks
const LANES = 128u;
const HALF_TILE = 64u;
const LANE_ROWS = LANES / CHUNKS; // rows of a tile that the lanes load at once

const SUM_STRIDE = 33u; // of a token's sums, in vec4, against bank conflicts

// x tile, then w tile; afterwards half a tile of sums
var<workgroup> tiles: array<vec4u, 2 * TILE * STRIDE>;
const W_TILE = TILE * STRIDE;

struct Eight { a: vec4u, b: vec4u, c: vec4u, d: vec4u, e: vec4u, f: vec4u, g: vec4u, h: vec4u }

fn load_chunk(at: u32) -> vec4u { return bitcast<vec4u>(x[at]); } // finite halves are no NaN as f32

fn load_x(at: u32) -> Eight {
  let step = 16u * params.num_chunks; // from 16 tokens to the next
  return Eight(
    load_chunk(at), load_chunk(at + step), load_chunk(at + 2u * step), load_chunk(at + 3u * step),
    load_chunk(at + 4u * step), load_chunk(at + 5u * step), load_chunk(at + 6u * step), load_chunk(at + 7u * step),
  );
}

fn store_eight(at: u32, x8: Eight, is_inside: bool) {
  store_chunk(at, x8.a, is_inside);
  store_chunk(at + LANE_ROWS * STRIDE, x8.b, is_inside);
  store_chunk(at + 2u * LANE_ROWS * STRIDE, x8.c, is_inside);
  store_chunk(at + 3u * LANE_ROWS * STRIDE, x8.d, is_inside);
  store_chunk(at + 4u * LANE_ROWS * STRIDE, x8.e, is_inside);
  store_chunk(at + 5u * LANE_ROWS * STRIDE, x8.f, is_inside);
  store_chunk(at + 6u * LANE_ROWS * STRIDE, x8.g, is_inside);
  store_chunk(at + 7u * LANE_ROWS * STRIDE, x8.h, is_inside);
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
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  let first_token = group.x * TILE;
  let first_output = group.y * select(TILE, HALF_TILE, params.is_swiglu != 0u);
  let row = lane / CHUNKS;
  let place = row * STRIDE + lane % CHUNKS;
  let tokens = first_token * params.num_chunks;
  let low_rows = weight_rows(first_output, row);
  let high_rows = weight_rows(first_output, row + HALF_TILE);
  // this subgroup's 64 x 64 of the tile
  let m = (subgroup / 2u) * HALF_TILE;
  let n = (subgroup % 2u) * HALF_TILE;

  var c00: Sums;
  var c01: Sums;
  var c02: Sums;
  var c03: Sums;
  var c10: Sums;
  var c11: Sums;
  var c12: Sums;
  var c13: Sums;
  var c20: Sums;
  var c21: Sums;
  var c22: Sums;
  var c23: Sums;
  var c30: Sums;
  var c31: Sums;
  var c32: Sums;
  var c33: Sums;
  var k = 0u;
  var x8 = load_x(x_chunk(tokens, k, lane));
  var w8 = load_eight_rows(low_rows, high_rows, chunk_of(k, lane));
  for (; k < params.num_chunks; k += CHUNKS) {
    let is_inside = k + lane % CHUNKS < params.num_chunks;
    store_eight(x_place(lane), x8, is_x_inside(k, lane));
    store_eight_rows(W_TILE + place, w8, is_inside);
    workgroupBarrier();
    x8 = load_x(x_chunk(tokens, k + CHUNKS, lane));
    w8 = load_eight_rows(low_rows, high_rows, chunk_of(k + CHUNKS, lane));
    for (var step = 0u; step < CHUNKS; step += 2u) {
      let b0 = right(n, step);
      let b1 = right(n + 16u, step);
      let b2 = right(n + 32u, step);
      let b3 = right(n + 48u, step);
      let a0 = left(m, step);
      let a1 = left(m + 16u, step);
      let a2 = left(m + 32u, step);
      let a3 = left(m + 48u, step);
      c00 = subgroupMatrixMultiplyAccumulate(a0, b0, c00);
      c01 = subgroupMatrixMultiplyAccumulate(a0, b1, c01);
      c02 = subgroupMatrixMultiplyAccumulate(a0, b2, c02);
      c03 = subgroupMatrixMultiplyAccumulate(a0, b3, c03);
      c10 = subgroupMatrixMultiplyAccumulate(a1, b0, c10);
      c11 = subgroupMatrixMultiplyAccumulate(a1, b1, c11);
      c12 = subgroupMatrixMultiplyAccumulate(a1, b2, c12);
      c13 = subgroupMatrixMultiplyAccumulate(a1, b3, c13);
      c20 = subgroupMatrixMultiplyAccumulate(a2, b0, c20);
      c21 = subgroupMatrixMultiplyAccumulate(a2, b1, c21);
      c22 = subgroupMatrixMultiplyAccumulate(a2, b2, c22);
      c23 = subgroupMatrixMultiplyAccumulate(a2, b3, c23);
      c30 = subgroupMatrixMultiplyAccumulate(a3, b0, c30);
      c31 = subgroupMatrixMultiplyAccumulate(a3, b1, c31);
      c32 = subgroupMatrixMultiplyAccumulate(a3, b2, c32);
      c33 = subgroupMatrixMultiplyAccumulate(a3, b3, c33);
    }
    workgroupBarrier();
  }

  if (DIRECT) {
    let stride = params.out_stride;
    let at = (first_token + m) * stride + params.out_offset + first_output + n;
    subgroupMatrixStore<row_major>(&y, at, c00, stride);
    subgroupMatrixStore<row_major>(&y, at + 16u, c01, stride);
    subgroupMatrixStore<row_major>(&y, at + 32u, c02, stride);
    subgroupMatrixStore<row_major>(&y, at + 48u, c03, stride);
    subgroupMatrixStore<row_major>(&y, at + 16u * stride, c10, stride);
    subgroupMatrixStore<row_major>(&y, at + 16u * stride + 16u, c11, stride);
    subgroupMatrixStore<row_major>(&y, at + 16u * stride + 32u, c12, stride);
    subgroupMatrixStore<row_major>(&y, at + 16u * stride + 48u, c13, stride);
    subgroupMatrixStore<row_major>(&y, at + 32u * stride, c20, stride);
    subgroupMatrixStore<row_major>(&y, at + 32u * stride + 16u, c21, stride);
    subgroupMatrixStore<row_major>(&y, at + 32u * stride + 32u, c22, stride);
    subgroupMatrixStore<row_major>(&y, at + 32u * stride + 48u, c23, stride);
    subgroupMatrixStore<row_major>(&y, at + 48u * stride, c30, stride);
    subgroupMatrixStore<row_major>(&y, at + 48u * stride + 16u, c31, stride);
    subgroupMatrixStore<row_major>(&y, at + 48u * stride + 32u, c32, stride);
    subgroupMatrixStore<row_major>(&y, at + 48u * stride + 48u, c33, stride);
    return;
  }
  // 64 tokens at a time: their sums fit where the tiles were
  for (var half = 0u; half < 2u; half++) {
    if (m / HALF_TILE == half) {
      subgroupMatrixStore<row_major>(&tiles, n / 4u, c00, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, n / 4u + 4u, c01, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, n / 4u + 8u, c02, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, n / 4u + 12u, c03, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, n / 4u + 16u * SUM_STRIDE, c10, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, n / 4u + 16u * SUM_STRIDE + 4u, c11, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, n / 4u + 16u * SUM_STRIDE + 8u, c12, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, n / 4u + 16u * SUM_STRIDE + 12u, c13, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, n / 4u + 32u * SUM_STRIDE, c20, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, n / 4u + 32u * SUM_STRIDE + 4u, c21, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, n / 4u + 32u * SUM_STRIDE + 8u, c22, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, n / 4u + 32u * SUM_STRIDE + 12u, c23, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, n / 4u + 48u * SUM_STRIDE, c30, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, n / 4u + 48u * SUM_STRIDE + 4u, c31, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, n / 4u + 48u * SUM_STRIDE + 8u, c32, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, n / 4u + 48u * SUM_STRIDE + 12u, c33, SUM_STRIDE);
    }
    workgroupBarrier();
    let first = first_token + half * HALF_TILE;
    store_sums(first, HALF_TILE, first, TILE, first_output, lane);
    workgroupBarrier();
  }
}
