// linear_matrix_few: y[t, n] = sum_k x[t, k] * w[n, k] + b[n] on tensor cores, for batched decode; with
// swiglu y[t, n] = silu(g) * u, where g and u are the sums of rows n and num_outputs + n.
//
// Shapes    x: [tokens, in] f16 in tiles   w: [rows, in] f32|f16|bf16   y: [tokens, out_stride] f32, or f16 in tiles
//           tokens of x is a multiple of 32; rows past the live ones hold anything
// Dispatch  (workgroups of 32 rows in x and y, 32 tokens in z)
// Tile      reading w is what takes the time, so tiles are small and many: 32 tokens x 32 rows, of
//           which each of the 4 subgroups takes every fourth 64 of k. At the end their sums are added
//           in order. Rows in workgroup memory are 8 halves apart from a power of two; the next
//           tile is on its way to registers while this one is multiplied
// Accuracy  f16 products (weights of other dtypes are rounded to f16), f32 sums; see
//           test/kernels/linearMatrix.gpu.test.ts
// Includes  lib/live.wgsl, lib/silu.wgsl, lib/linear_io.wgsl, lib/linear_common.wgsl,
//           lib/linear_store.wgsl, lib/linear_out_*.wgsl, lib/linear_tile.wgsl, lib/tiles.wgsl, lib/halves_*.wgsl
// Needs     subgroups of 32; matrices of f16, 16 x 16 x 16, with f32 results
const TILE = 32u; // tokens, and rows
const HALF_TILE = 16u;
const SUBGROUPS = 4u;
const LANES = 32u * SUBGROUPS;
const CHUNKS = 8u; // of 8 halves: 64 of k
const STRIDE = 9u; // of a row in workgroup memory, in chunks
const W_TILE = TILE * STRIDE;
const REGION = 2u * W_TILE; // of a subgroup: x tile and w tile, afterwards its sums
const SUM_STRIDE = TILE / 4u; // of a token's sums, in vec4

var<workgroup> regions: array<vec4u, SUBGROUPS * REGION>;

// Four chunks: of w rows 4 apart, of which eight lanes read 128 bytes each; of x tiles side by side.
struct Four { a: vec4u, b: vec4u, c: vec4u, d: vec4u }
struct FourRaw { a: Raw, b: Raw, c: Raw, d: Raw }

// Loads never branch: past the end of k they repeat the last chunk or tile, which store_chunk makes zero.
// 16 tokens of a slice, as their tiles lie; `first` is what those begin with.
fn load_x(first: u32, k: u32, lane: u32) -> Four {
  let last = params.num_chunks / 2u - 1u;
  let at = first + lane % 32u;
  let tile = k / 2u;
  return Four( // finite halves are no NaN as f32
    bitcast<vec4u>(x[at + 32u * min(tile, last)]),
    bitcast<vec4u>(x[at + 32u * min(tile + 1u, last)]),
    bitcast<vec4u>(x[at + 32u * min(tile + 2u, last)]),
    bitcast<vec4u>(x[at + 32u * min(tile + 3u, last)]),
  );
}

fn load_w(rows: vec4u, chunk: u32) -> FourRaw {
  let at = rows * params.num_chunks + vec4u(min(chunk, params.num_chunks - 1u));
  return FourRaw(load_raw(at.x), load_raw(at.y), load_raw(at.z), load_raw(at.w));
}

fn store_chunk(at: u32, halves: vec4u, is_inside: bool) {
  regions[at] = select(vec4u(), halves, is_inside);
}

fn store_x(at: u32, four: Four, k: u32) {
  store_chunk(at, four.a, k < params.num_chunks);
  store_chunk(at + 2u, four.b, k + 2u < params.num_chunks);
  store_chunk(at + 4u, four.c, k + 4u < params.num_chunks);
  store_chunk(at + 6u, four.d, k + 6u < params.num_chunks);
}

fn store_w(at: u32, four: FourRaw, is_inside: bool) {
  store_chunk(at, halves_of(four.a), is_inside);
  store_chunk(at + 4u * STRIDE, halves_of(four.b), is_inside);
  store_chunk(at + 8u * STRIDE, halves_of(four.c), is_inside);
  store_chunk(at + 12u * STRIDE, halves_of(four.d), is_inside);
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) num_groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  let first_token = group.z * TILE;
  let outputs_per_group = select(TILE, HALF_TILE, params.is_swiglu != 0u);
  let first_output = (group.x + group.y * num_groups.x) * outputs_per_group;
  let region = subgroup * REGION;
  let row = (lane % 32u) / CHUNKS;
  let chunk = lane % CHUNKS;
  let place = region + row * STRIDE + chunk;
  let rows0 = vec4u(
    weight_row(first_output, row),
    weight_row(first_output, row + 4u),
    weight_row(first_output, row + 8u),
    weight_row(first_output, row + 12u),
  );
  let rows1 = vec4u(
    weight_row(first_output, row + 16u),
    weight_row(first_output, row + 20u),
    weight_row(first_output, row + 24u),
    weight_row(first_output, row + 28u),
  );

  var c00: subgroup_matrix_result<f32, 16, 16>;
  var c01: subgroup_matrix_result<f32, 16, 16>;
  var c10: subgroup_matrix_result<f32, 16, 16>;
  var c11: subgroup_matrix_result<f32, 16, 16>;
  let x_place = region + lane % 32u / 2u * STRIDE + lane % 2u;
  let tokens0 = first_token * params.num_chunks;
  let tokens1 = tokens0 + 16u * params.num_chunks;
  var mine = subgroup * CHUNKS;
  var w0 = load_w(rows0, mine + chunk);
  var w1 = load_w(rows1, mine + chunk);
  var x0 = load_x(tokens0, mine, lane);
  var x1 = load_x(tokens1, mine, lane);
  for (var k = 0u; k < params.num_chunks; k += SUBGROUPS * CHUNKS) {
    let is_inside = mine + chunk < params.num_chunks;
    store_x(x_place, x0, mine);
    store_x(x_place + 16u * STRIDE, x1, mine);
    store_w(place + W_TILE, w0, is_inside);
    store_w(place + W_TILE + 16u * STRIDE, w1, is_inside);
    workgroupBarrier();
    mine += SUBGROUPS * CHUNKS;
    w0 = load_w(rows0, mine + chunk);
    w1 = load_w(rows1, mine + chunk);
    x0 = load_x(tokens0, mine, lane);
    x1 = load_x(tokens1, mine, lane);
    for (var step = 0u; step < CHUNKS; step += 2u) {
      let a_at = region + step;
      let b_at = region + W_TILE + step;
      let a0 = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&regions, a_at, STRIDE);
      let a1 = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&regions, a_at + 16u * STRIDE, STRIDE);
      let b0 = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&regions, b_at, STRIDE);
      let b1 = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&regions, b_at + 16u * STRIDE, STRIDE);
      c00 = subgroupMatrixMultiplyAccumulate(a0, b0, c00);
      c01 = subgroupMatrixMultiplyAccumulate(a0, b1, c01);
      c10 = subgroupMatrixMultiplyAccumulate(a1, b0, c10);
      c11 = subgroupMatrixMultiplyAccumulate(a1, b1, c11);
    }
    workgroupBarrier();
  }

  subgroupMatrixStore<row_major>(&regions, region, c00, SUM_STRIDE);
  subgroupMatrixStore<row_major>(&regions, region + 4u, c01, SUM_STRIDE);
  subgroupMatrixStore<row_major>(&regions, region + 16u * SUM_STRIDE, c10, SUM_STRIDE);
  subgroupMatrixStore<row_major>(&regions, region + 16u * SUM_STRIDE + 4u, c11, SUM_STRIDE);
  workgroupBarrier();
  for (var i = lane; i < TILE * SUM_STRIDE; i += LANES) {
    store_sums(first_token + i / SUM_STRIDE, first_output, i);
  }
}

// Four neighbouring sums, over the subgroups in order.
fn sums_of(i: u32) -> vec4f {
  var sums = vec4f();
  for (var s = 0u; s < SUBGROUPS; s++) { sums += bitcast<vec4f>(regions[s * REGION + i]); }
  return sums;
}

fn store_sums(token: u32, first_output: u32, i: u32) {
  if (token >= live_rows()) { return; }
  let column = (i % SUM_STRIDE) * 4u;
  let is_swiglu = params.is_swiglu != 0u;
  if (is_swiglu && column >= HALF_TILE) { return; }
  let sums = sums_of(i);
  var ups = vec4f();
  if (is_swiglu) { ups = sums_of(i + 4u); }
  store_four(token, first_output + column, sums, ups);
}
