// linear_matrix_stream: y[t, n] = sum_k x[t, k] * w[n, k] + b[n] on tensor cores, for prompts; with swiglu
// y[t, n] = silu(g) * u, where g and u are the sums of rows n and num_outputs + n.
//
// Shapes    x: [tokens, in] f16 in tiles   w: [rows, in] f32|f16|bf16   y: [tokens, out_stride] f32, or f16 in
//           tiles; tokens of x is a multiple of 128; rows past the live ones hold anything
// Dispatch  (ceil(tokens / 128), ceil(rows / 128)): tokens vary fastest, so that the workgroups
//           that run together share their rows of w in the L2 cache
// Tile      128 tokens x 128 rows x 64 of k; four subgroups of 32 lanes, each 32 tokens x all rows. No two
//           subgroups share activations, so those go straight from device memory into matrices, each as soon as the
//           one before it in its place has been multiplied; only weights go through workgroup memory, and two slices
//           of them are on their way to registers. Matrices are named and steps written out: drivers keep arrays
//           of matrices in memory, and functions over structs of them cost a fifth of the speed
// Accuracy  f16 products (weights of other dtypes are rounded to f16), f32 sums; see
//           test/kernels/linearMatrix.gpu.test.ts
// Includes  lib/live.wgsl, lib/silu.wgsl, lib/linear_io.wgsl, lib/linear_common.wgsl, lib/linear_store.wgsl,
//           lib/linear_out_*.wgsl, lib/linear_tile.wgsl, lib/linear_slice.wgsl, lib/linear_four.wgsl, lib/linear_sums.wgsl,
//           lib/tiles.wgsl, lib/halves_*.wgsl
// Needs     subgroups of 32; matrices of f16, 16 x 16 x 16, with f32 results
override DIRECT: bool; // whole tiles and no epilogue: results go straight to y
override EVEN: bool;   // k is an even number of slices

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sums = subgroup_matrix_result<f32, 16, 16>;

const TILE = 128u;
const HALF_TILE = 64u;
const SUBGROUP_TOKENS = 32u;
const CHUNKS = 8u;   // chunks of 8 halves in a slice of a row: 64 of k
const STRIDE = 9u;   // of a row in workgroup memory, in chunks, against bank conflicts
const LANES = 128u;
const LANE_ROWS = LANES / CHUNKS; // rows of a tile that the lanes load at once
const SUM_STRIDE = 33u; // of a token's sums, in vec4, against bank conflicts

// a slice of w; afterwards the sums of a subgroup's tokens
var<workgroup> tiles: array<vec4u, TILE * STRIDE>;

// The s-th tile of x of the slice at chunk k; past the end the last one, as rows of w are zeros there.
fn tile_of(k: u32, s: u32) -> u32 {
  if (WHOLE_K) { return min(k, params.num_chunks - CHUNKS) / 2u + s; }
  return min(k / 2u + s, params.num_chunks / 2u - 1u);
}

fn left(tile: u32) -> Left { return subgroupMatrixLoad<Left, row_major>(&x, tile * 32u, 2u); }

fn right(row: u32, step: u32) -> Right {
  return subgroupMatrixLoad<Right, col_major>(&tiles, row * STRIDE + step, STRIDE);
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
  let low = weight_rows(first_output, row);
  let high = weight_rows(first_output, row + HALF_TILE);
  let tokens = first_token + subgroup * SUBGROUP_TOKENS;
  let x0 = tokens / 16u * (params.num_chunks / 2u); // tiles of this subgroup's first 16 tokens
  let x1 = x0 + params.num_chunks / 2u;

  var c00: Sums; var c01: Sums; var c02: Sums; var c03: Sums;
  var c04: Sums; var c05: Sums; var c06: Sums; var c07: Sums;
  var c10: Sums; var c11: Sums; var c12: Sums; var c13: Sums;
  var c14: Sums; var c15: Sums; var c16: Sums; var c17: Sums;
  var a00 = left(x0 + tile_of(0u, 0u)); var a01 = left(x1 + tile_of(0u, 0u)); // by step of 16 of k, and tile
  var a10 = left(x0 + tile_of(0u, 1u)); var a11 = left(x1 + tile_of(0u, 1u));
  var a20 = left(x0 + tile_of(0u, 2u)); var a21 = left(x1 + tile_of(0u, 2u));
  var a30 = left(x0 + tile_of(0u, 3u)); var a31 = left(x1 + tile_of(0u, 3u));
  var even = load_eight_rows(low, high, chunk_of(0u, lane));
  var odd = load_eight_rows(low, high, chunk_of(CHUNKS, lane));
  for (var k = 0u; k < params.num_chunks; k += 2u * CHUNKS) {
    store_eight_rows(place, even, k + lane % CHUNKS < params.num_chunks);
    even = load_eight_rows(low, high, chunk_of(k + 2u * CHUNKS, lane));
    workgroupBarrier();
    {
      let b00 = right(0u, 0u); c00 = subgroupMatrixMultiplyAccumulate(a00, b00, c00);
      c10 = subgroupMatrixMultiplyAccumulate(a01, b00, c10);
      let b01 = right(16u, 0u); c01 = subgroupMatrixMultiplyAccumulate(a00, b01, c01);
      c11 = subgroupMatrixMultiplyAccumulate(a01, b01, c11);
      let b02 = right(32u, 0u); c02 = subgroupMatrixMultiplyAccumulate(a00, b02, c02);
      c12 = subgroupMatrixMultiplyAccumulate(a01, b02, c12);
      let b03 = right(48u, 0u); c03 = subgroupMatrixMultiplyAccumulate(a00, b03, c03);
      c13 = subgroupMatrixMultiplyAccumulate(a01, b03, c13);
      let b04 = right(64u, 0u); c04 = subgroupMatrixMultiplyAccumulate(a00, b04, c04);
      c14 = subgroupMatrixMultiplyAccumulate(a01, b04, c14);
      let b05 = right(80u, 0u); c05 = subgroupMatrixMultiplyAccumulate(a00, b05, c05);
      c15 = subgroupMatrixMultiplyAccumulate(a01, b05, c15);
      let b06 = right(96u, 0u); c06 = subgroupMatrixMultiplyAccumulate(a00, b06, c06);
      c16 = subgroupMatrixMultiplyAccumulate(a01, b06, c16);
      let b07 = right(112u, 0u); c07 = subgroupMatrixMultiplyAccumulate(a00, b07, c07);
      c17 = subgroupMatrixMultiplyAccumulate(a01, b07, c17);
      a00 = left(x0 + tile_of(k + CHUNKS, 0u)); a01 = left(x1 + tile_of(k + CHUNKS, 0u));
      let b10 = right(0u, 2u); c00 = subgroupMatrixMultiplyAccumulate(a10, b10, c00);
      c10 = subgroupMatrixMultiplyAccumulate(a11, b10, c10);
      let b11 = right(16u, 2u); c01 = subgroupMatrixMultiplyAccumulate(a10, b11, c01);
      c11 = subgroupMatrixMultiplyAccumulate(a11, b11, c11);
      let b12 = right(32u, 2u); c02 = subgroupMatrixMultiplyAccumulate(a10, b12, c02);
      c12 = subgroupMatrixMultiplyAccumulate(a11, b12, c12);
      let b13 = right(48u, 2u); c03 = subgroupMatrixMultiplyAccumulate(a10, b13, c03);
      c13 = subgroupMatrixMultiplyAccumulate(a11, b13, c13);
      let b14 = right(64u, 2u); c04 = subgroupMatrixMultiplyAccumulate(a10, b14, c04);
      c14 = subgroupMatrixMultiplyAccumulate(a11, b14, c14);
      let b15 = right(80u, 2u); c05 = subgroupMatrixMultiplyAccumulate(a10, b15, c05);
      c15 = subgroupMatrixMultiplyAccumulate(a11, b15, c15);
      let b16 = right(96u, 2u); c06 = subgroupMatrixMultiplyAccumulate(a10, b16, c06);
      c16 = subgroupMatrixMultiplyAccumulate(a11, b16, c16);
      let b17 = right(112u, 2u); c07 = subgroupMatrixMultiplyAccumulate(a10, b17, c07);
      c17 = subgroupMatrixMultiplyAccumulate(a11, b17, c17);
      a10 = left(x0 + tile_of(k + CHUNKS, 1u)); a11 = left(x1 + tile_of(k + CHUNKS, 1u));
      let b20 = right(0u, 4u); c00 = subgroupMatrixMultiplyAccumulate(a20, b20, c00);
      c10 = subgroupMatrixMultiplyAccumulate(a21, b20, c10);
      let b21 = right(16u, 4u); c01 = subgroupMatrixMultiplyAccumulate(a20, b21, c01);
      c11 = subgroupMatrixMultiplyAccumulate(a21, b21, c11);
      let b22 = right(32u, 4u); c02 = subgroupMatrixMultiplyAccumulate(a20, b22, c02);
      c12 = subgroupMatrixMultiplyAccumulate(a21, b22, c12);
      let b23 = right(48u, 4u); c03 = subgroupMatrixMultiplyAccumulate(a20, b23, c03);
      c13 = subgroupMatrixMultiplyAccumulate(a21, b23, c13);
      let b24 = right(64u, 4u); c04 = subgroupMatrixMultiplyAccumulate(a20, b24, c04);
      c14 = subgroupMatrixMultiplyAccumulate(a21, b24, c14);
      let b25 = right(80u, 4u); c05 = subgroupMatrixMultiplyAccumulate(a20, b25, c05);
      c15 = subgroupMatrixMultiplyAccumulate(a21, b25, c15);
      let b26 = right(96u, 4u); c06 = subgroupMatrixMultiplyAccumulate(a20, b26, c06);
      c16 = subgroupMatrixMultiplyAccumulate(a21, b26, c16);
      let b27 = right(112u, 4u); c07 = subgroupMatrixMultiplyAccumulate(a20, b27, c07);
      c17 = subgroupMatrixMultiplyAccumulate(a21, b27, c17);
      a20 = left(x0 + tile_of(k + CHUNKS, 2u)); a21 = left(x1 + tile_of(k + CHUNKS, 2u));
      let b30 = right(0u, 6u); c00 = subgroupMatrixMultiplyAccumulate(a30, b30, c00);
      c10 = subgroupMatrixMultiplyAccumulate(a31, b30, c10);
      let b31 = right(16u, 6u); c01 = subgroupMatrixMultiplyAccumulate(a30, b31, c01);
      c11 = subgroupMatrixMultiplyAccumulate(a31, b31, c11);
      let b32 = right(32u, 6u); c02 = subgroupMatrixMultiplyAccumulate(a30, b32, c02);
      c12 = subgroupMatrixMultiplyAccumulate(a31, b32, c12);
      let b33 = right(48u, 6u); c03 = subgroupMatrixMultiplyAccumulate(a30, b33, c03);
      c13 = subgroupMatrixMultiplyAccumulate(a31, b33, c13);
      let b34 = right(64u, 6u); c04 = subgroupMatrixMultiplyAccumulate(a30, b34, c04);
      c14 = subgroupMatrixMultiplyAccumulate(a31, b34, c14);
      let b35 = right(80u, 6u); c05 = subgroupMatrixMultiplyAccumulate(a30, b35, c05);
      c15 = subgroupMatrixMultiplyAccumulate(a31, b35, c15);
      let b36 = right(96u, 6u); c06 = subgroupMatrixMultiplyAccumulate(a30, b36, c06);
      c16 = subgroupMatrixMultiplyAccumulate(a31, b36, c16);
      let b37 = right(112u, 6u); c07 = subgroupMatrixMultiplyAccumulate(a30, b37, c07);
      c17 = subgroupMatrixMultiplyAccumulate(a31, b37, c17);
      a30 = left(x0 + tile_of(k + CHUNKS, 3u)); a31 = left(x1 + tile_of(k + CHUNKS, 3u));
    }
    workgroupBarrier();
    if (!EVEN && k + CHUNKS >= params.num_chunks) { break; }
    store_eight_rows(place, odd, k + CHUNKS + lane % CHUNKS < params.num_chunks);
    odd = load_eight_rows(low, high, chunk_of(k + 3u * CHUNKS, lane));
    workgroupBarrier();
    {
      let b00 = right(0u, 0u); c00 = subgroupMatrixMultiplyAccumulate(a00, b00, c00);
      c10 = subgroupMatrixMultiplyAccumulate(a01, b00, c10);
      let b01 = right(16u, 0u); c01 = subgroupMatrixMultiplyAccumulate(a00, b01, c01);
      c11 = subgroupMatrixMultiplyAccumulate(a01, b01, c11);
      let b02 = right(32u, 0u); c02 = subgroupMatrixMultiplyAccumulate(a00, b02, c02);
      c12 = subgroupMatrixMultiplyAccumulate(a01, b02, c12);
      let b03 = right(48u, 0u); c03 = subgroupMatrixMultiplyAccumulate(a00, b03, c03);
      c13 = subgroupMatrixMultiplyAccumulate(a01, b03, c13);
      let b04 = right(64u, 0u); c04 = subgroupMatrixMultiplyAccumulate(a00, b04, c04);
      c14 = subgroupMatrixMultiplyAccumulate(a01, b04, c14);
      let b05 = right(80u, 0u); c05 = subgroupMatrixMultiplyAccumulate(a00, b05, c05);
      c15 = subgroupMatrixMultiplyAccumulate(a01, b05, c15);
      let b06 = right(96u, 0u); c06 = subgroupMatrixMultiplyAccumulate(a00, b06, c06);
      c16 = subgroupMatrixMultiplyAccumulate(a01, b06, c16);
      let b07 = right(112u, 0u); c07 = subgroupMatrixMultiplyAccumulate(a00, b07, c07);
      c17 = subgroupMatrixMultiplyAccumulate(a01, b07, c17);
      a00 = left(x0 + tile_of(k + 2u * CHUNKS, 0u)); a01 = left(x1 + tile_of(k + 2u * CHUNKS, 0u));
      let b10 = right(0u, 2u); c00 = subgroupMatrixMultiplyAccumulate(a10, b10, c00);
      c10 = subgroupMatrixMultiplyAccumulate(a11, b10, c10);
      let b11 = right(16u, 2u); c01 = subgroupMatrixMultiplyAccumulate(a10, b11, c01);
      c11 = subgroupMatrixMultiplyAccumulate(a11, b11, c11);
      let b12 = right(32u, 2u); c02 = subgroupMatrixMultiplyAccumulate(a10, b12, c02);
      c12 = subgroupMatrixMultiplyAccumulate(a11, b12, c12);
      let b13 = right(48u, 2u); c03 = subgroupMatrixMultiplyAccumulate(a10, b13, c03);
      c13 = subgroupMatrixMultiplyAccumulate(a11, b13, c13);
      let b14 = right(64u, 2u); c04 = subgroupMatrixMultiplyAccumulate(a10, b14, c04);
      c14 = subgroupMatrixMultiplyAccumulate(a11, b14, c14);
      let b15 = right(80u, 2u); c05 = subgroupMatrixMultiplyAccumulate(a10, b15, c05);
      c15 = subgroupMatrixMultiplyAccumulate(a11, b15, c15);
      let b16 = right(96u, 2u); c06 = subgroupMatrixMultiplyAccumulate(a10, b16, c06);
      c16 = subgroupMatrixMultiplyAccumulate(a11, b16, c16);
      let b17 = right(112u, 2u); c07 = subgroupMatrixMultiplyAccumulate(a10, b17, c07);
      c17 = subgroupMatrixMultiplyAccumulate(a11, b17, c17);
      a10 = left(x0 + tile_of(k + 2u * CHUNKS, 1u)); a11 = left(x1 + tile_of(k + 2u * CHUNKS, 1u));
      let b20 = right(0u, 4u); c00 = subgroupMatrixMultiplyAccumulate(a20, b20, c00);
      c10 = subgroupMatrixMultiplyAccumulate(a21, b20, c10);
      let b21 = right(16u, 4u); c01 = subgroupMatrixMultiplyAccumulate(a20, b21, c01);
      c11 = subgroupMatrixMultiplyAccumulate(a21, b21, c11);
      let b22 = right(32u, 4u); c02 = subgroupMatrixMultiplyAccumulate(a20, b22, c02);
      c12 = subgroupMatrixMultiplyAccumulate(a21, b22, c12);
      let b23 = right(48u, 4u); c03 = subgroupMatrixMultiplyAccumulate(a20, b23, c03);
      c13 = subgroupMatrixMultiplyAccumulate(a21, b23, c13);
      let b24 = right(64u, 4u); c04 = subgroupMatrixMultiplyAccumulate(a20, b24, c04);
      c14 = subgroupMatrixMultiplyAccumulate(a21, b24, c14);
      let b25 = right(80u, 4u); c05 = subgroupMatrixMultiplyAccumulate(a20, b25, c05);
      c15 = subgroupMatrixMultiplyAccumulate(a21, b25, c15);
      let b26 = right(96u, 4u); c06 = subgroupMatrixMultiplyAccumulate(a20, b26, c06);
      c16 = subgroupMatrixMultiplyAccumulate(a21, b26, c16);
      let b27 = right(112u, 4u); c07 = subgroupMatrixMultiplyAccumulate(a20, b27, c07);
      c17 = subgroupMatrixMultiplyAccumulate(a21, b27, c17);
      a20 = left(x0 + tile_of(k + 2u * CHUNKS, 2u)); a21 = left(x1 + tile_of(k + 2u * CHUNKS, 2u));
      let b30 = right(0u, 6u); c00 = subgroupMatrixMultiplyAccumulate(a30, b30, c00);
      c10 = subgroupMatrixMultiplyAccumulate(a31, b30, c10);
      let b31 = right(16u, 6u); c01 = subgroupMatrixMultiplyAccumulate(a30, b31, c01);
      c11 = subgroupMatrixMultiplyAccumulate(a31, b31, c11);
      let b32 = right(32u, 6u); c02 = subgroupMatrixMultiplyAccumulate(a30, b32, c02);
      c12 = subgroupMatrixMultiplyAccumulate(a31, b32, c12);
      let b33 = right(48u, 6u); c03 = subgroupMatrixMultiplyAccumulate(a30, b33, c03);
      c13 = subgroupMatrixMultiplyAccumulate(a31, b33, c13);
      let b34 = right(64u, 6u); c04 = subgroupMatrixMultiplyAccumulate(a30, b34, c04);
      c14 = subgroupMatrixMultiplyAccumulate(a31, b34, c14);
      let b35 = right(80u, 6u); c05 = subgroupMatrixMultiplyAccumulate(a30, b35, c05);
      c15 = subgroupMatrixMultiplyAccumulate(a31, b35, c15);
      let b36 = right(96u, 6u); c06 = subgroupMatrixMultiplyAccumulate(a30, b36, c06);
      c16 = subgroupMatrixMultiplyAccumulate(a31, b36, c16);
      let b37 = right(112u, 6u); c07 = subgroupMatrixMultiplyAccumulate(a30, b37, c07);
      c17 = subgroupMatrixMultiplyAccumulate(a31, b37, c17);
      a30 = left(x0 + tile_of(k + 2u * CHUNKS, 3u)); a31 = left(x1 + tile_of(k + 2u * CHUNKS, 3u));
    }
    workgroupBarrier();
  }

  if (DIRECT) {
    let stride = params.out_stride;
    let at = tokens * stride + params.out_offset + first_output;
    let next = at + 16u * stride;
    subgroupMatrixStore<row_major>(&y, at + 0u, c00, stride);
    subgroupMatrixStore<row_major>(&y, at + 16u, c01, stride);
    subgroupMatrixStore<row_major>(&y, at + 32u, c02, stride);
    subgroupMatrixStore<row_major>(&y, at + 48u, c03, stride);
    subgroupMatrixStore<row_major>(&y, at + 64u, c04, stride);
    subgroupMatrixStore<row_major>(&y, at + 80u, c05, stride);
    subgroupMatrixStore<row_major>(&y, at + 96u, c06, stride);
    subgroupMatrixStore<row_major>(&y, at + 112u, c07, stride);
    subgroupMatrixStore<row_major>(&y, next + 0u, c10, stride);
    subgroupMatrixStore<row_major>(&y, next + 16u, c11, stride);
    subgroupMatrixStore<row_major>(&y, next + 32u, c12, stride);
    subgroupMatrixStore<row_major>(&y, next + 48u, c13, stride);
    subgroupMatrixStore<row_major>(&y, next + 64u, c14, stride);
    subgroupMatrixStore<row_major>(&y, next + 80u, c15, stride);
    subgroupMatrixStore<row_major>(&y, next + 96u, c16, stride);
    subgroupMatrixStore<row_major>(&y, next + 112u, c17, stride);
    return;
  }
  // a subgroup's tokens at a time: their sums fit where the slice was
  for (var s = 0u; s < TILE / SUBGROUP_TOKENS; s++) {
    if (subgroup == s) {
      let next = 16u * SUM_STRIDE;
      subgroupMatrixStore<row_major>(&tiles, 0u, c00, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, 4u, c01, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, 8u, c02, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, 12u, c03, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, 16u, c04, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, 20u, c05, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, 24u, c06, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, 28u, c07, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, next + 0u, c10, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, next + 4u, c11, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, next + 8u, c12, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, next + 12u, c13, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, next + 16u, c14, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, next + 20u, c15, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, next + 24u, c16, SUM_STRIDE);
      subgroupMatrixStore<row_major>(&tiles, next + 28u, c17, SUM_STRIDE);
    }
    workgroupBarrier();
    let first = first_token + s * SUBGROUP_TOKENS;
    store_sums(first, SUBGROUP_TOKENS, first, TILE, first_output, lane);
    workgroupBarrier();
  }
}
