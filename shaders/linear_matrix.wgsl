// linear_matrix: y[t, n] = sum_k x[t, k] * w[n, k] + b[n] on tensor cores; with swiglu
// y[t, n] = silu(g) * u, where g and u are the sums of rows n and num_outputs + n.
//
// Shapes    x: [tokens, in] f16   w: [rows, in] f32|f16|bf16   y: [tokens, out_stride] f32|f16
//           tokens of x is a multiple of 128; rows past the live ones hold anything
// Dispatch  (ceil(tokens / 128), ceil(rows / 128)): tokens vary fastest, so that the workgroups
//           that run together share their rows of w in the L2 cache
// Tile      128 tokens x 128 rows x 64 of k in 36 KiB of workgroup memory, rows 8 halves apart from
//           a power of two against bank conflicts; 16 subgroups of 32 lanes, 32 x 32 each. The next
//           tile is on its way to registers while this one is multiplied
// Accuracy  f16 products (weights of other dtypes are rounded to f16), f32 sums; see
//           test/kernels/linearMatrix.gpu.test.ts
// Includes  lib/live.wgsl, lib/silu.wgsl, lib/linear_io.wgsl, lib/linear_common.wgsl,
//           lib/linear_store.wgsl, lib/linear_out_*.wgsl, lib/linear_tile.wgsl, lib/halves_*.wgsl
// Needs     subgroups of 32; matrices of f16, 16 x 16 x 16, with f32 results
override DIRECT: bool; // whole tiles and no epilogue: results go straight to y

const TILE = 128u;
const CHUNKS = 8u;   // chunks of 8 halves in a tile's row: 64 of k
const STRIDE = 9u;   // of a row in workgroup memory, in chunks
const LANES = 512u;
const HALF_TILE = 64u;

// x tile, then w tile; afterwards half a tile of sums
var<workgroup> tiles: array<vec4u, 2 * TILE * STRIDE>;
const W_TILE = TILE * STRIDE;

// Loads never branch: past the end of k they repeat the last chunk, which store_chunk makes zero.
fn load_x(row: u32, chunk: u32) -> vec4u {
  // finite halves are no NaN as f32
  return bitcast<vec4u>(x[row * params.num_chunks + min(chunk, params.num_chunks - 1u)]);
}

fn load_w(row: u32, chunk: u32) -> Raw {
  return load_raw(row * params.num_chunks + min(chunk, params.num_chunks - 1u));
}

fn store_chunk(at: u32, halves: vec4u, chunk: u32) {
  tiles[at] = select(vec4u(), halves, chunk < params.num_chunks);
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  let first_token = group.x * TILE;
  let first_output = group.y * select(TILE, HALF_TILE, params.is_swiglu != 0u);
  // each lane brings two chunks of either tile: rows lane / 8 and 64 more
  let row = lane / CHUNKS;
  let chunk = lane % CHUNKS;
  let place = row * STRIDE + chunk;
  let x_row = first_token + row;
  let w_row0 = weight_row(first_output, row);
  let w_row1 = weight_row(first_output, row + HALF_TILE);
  // this subgroup's 32 x 32 of the tile
  let m = (subgroup / 4u) * 32u;
  let n = (subgroup % 4u) * 32u;

  var c00: subgroup_matrix_result<f32, 16, 16>;
  var c01: subgroup_matrix_result<f32, 16, 16>;
  var c10: subgroup_matrix_result<f32, 16, 16>;
  var c11: subgroup_matrix_result<f32, 16, 16>;
  var x0 = load_x(x_row, chunk);
  var x1 = load_x(x_row + HALF_TILE, chunk);
  var w0 = load_w(w_row0, chunk);
  var w1 = load_w(w_row1, chunk);
  for (var k = 0u; k < params.num_chunks; k += CHUNKS) {
    let current = k + chunk;
    store_chunk(place, x0, current);
    store_chunk(place + HALF_TILE * STRIDE, x1, current);
    store_chunk(W_TILE + place, halves_of(w0), current);
    store_chunk(W_TILE + place + HALF_TILE * STRIDE, halves_of(w1), current);
    workgroupBarrier();
    let next = k + CHUNKS + chunk;
    x0 = load_x(x_row, next);
    x1 = load_x(x_row + HALF_TILE, next);
    w0 = load_w(w_row0, next);
    w1 = load_w(w_row1, next);
    for (var step = 0u; step < CHUNKS; step += 2u) {
      let a_at = m * STRIDE + step;
      let b_at = W_TILE + n * STRIDE + step;
      let a0 = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&tiles, a_at, STRIDE);
      let a1 = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&tiles, a_at + 16u * STRIDE, STRIDE);
      let b0 = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&tiles, b_at, STRIDE);
      let b1 = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&tiles, b_at + 16u * STRIDE, STRIDE);
      c00 = subgroupMatrixMultiplyAccumulate(a0, b0, c00);
      c01 = subgroupMatrixMultiplyAccumulate(a0, b1, c01);
      c10 = subgroupMatrixMultiplyAccumulate(a1, b0, c10);
      c11 = subgroupMatrixMultiplyAccumulate(a1, b1, c11);
    }
    workgroupBarrier();
  }

  if (DIRECT) {
    let at = (first_token + m) * params.out_stride + params.out_offset + first_output + n;
    subgroupMatrixStore<row_major>(&y, at, c00, params.out_stride);
    subgroupMatrixStore<row_major>(&y, at + 16u, c01, params.out_stride);
    subgroupMatrixStore<row_major>(&y, at + 16u * params.out_stride, c10, params.out_stride);
    subgroupMatrixStore<row_major>(&y, at + 16u * params.out_stride + 16u, c11, params.out_stride);
    return;
  }
  // 64 tokens at a time: their sums fit where the tiles were, 32 vec4 a token
  for (var half = 0u; half < 2u; half++) {
    if (m / HALF_TILE == half) {
      let at = (m % HALF_TILE) * 32u + n / 4u;
      subgroupMatrixStore<row_major>(&tiles, at, c00, 32u);
      subgroupMatrixStore<row_major>(&tiles, at + 4u, c01, 32u);
      subgroupMatrixStore<row_major>(&tiles, at + 16u * 32u, c10, 32u);
      subgroupMatrixStore<row_major>(&tiles, at + 16u * 32u + 4u, c11, 32u);
    }
    workgroupBarrier();
    for (var i = lane; i < HALF_TILE * 32u; i += LANES) {
      store_sums(first_token + half * HALF_TILE + i / 32u, first_output, i);
    }
    workgroupBarrier();
  }
}

// Four neighbouring sums of a token; with swiglu the gates' lanes take the ups along.
fn store_sums(token: u32, first_output: u32, i: u32) {
  if (token >= live_rows()) { return; }
  let column = (i % 32u) * 4u;
  let is_swiglu = params.is_swiglu != 0u;
  if (is_swiglu && column >= HALF_TILE) { return; }
  let sums = bitcast<vec4f>(tiles[i]);
  var ups = vec4f();
  if (is_swiglu) { ups = bitcast<vec4f>(tiles[i + HALF_TILE / 4u]); }
  store_four(token, first_output + column, sums, ups);
}
