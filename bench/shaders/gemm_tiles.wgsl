// gemm_tiles: y[t, n] = sum_k x[t, k] * w[n, k] on tensor cores, for prefill over a weight in tiles (to_tiles.wgsl):
// tiles go from device memory straight into matrices, a slice of k ahead of their products; activations
// through two buffers of workgroup memory, so that a slice takes one barrier
//
// Shapes    x: [tokens, in] f16   w: [rows / 16, in / 16, 16, 16] f16   y: [tokens, rows] f32
//           tokens, rows: multiples of 128   in: a multiple of 64
// Dispatch  (tokens / 128, rows / 128): tokens vary fastest, so that workgroups which run together share rows of w
// Tile      128 tokens x 128 rows x 64 of k; 16 subgroups, 32 x 32 each
// Accuracy  f16 products, f32 sums
// Needs     subgroups of 32; matrices of f16, 16 x 16 x 16, with f32 results
// Prelude   const IS_AHEAD: whether tiles are loaded a slice ahead
alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sums = subgroup_matrix_result<f32, 16, 16>;

const LANES = 512u;
const TILE = 128u;
const CHUNKS = 8u; // of 8 halves in a token's slice: 4 tiles of k
const STRIDE = 9u; // against bank conflicts
const BUFFER = TILE * STRIDE;

struct Params { num_row_tiles: u32, num_k_tiles: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4u>;
@group(0) @binding(2) var<storage, read> w: array<vec4u>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

var<workgroup> xs: array<vec4u, 2u * BUFFER>;

// Four neighbouring tiles of k, of two tiles of rows.
struct Rights { p0: Right, p1: Right, p2: Right, p3: Right, q0: Right, q1: Right, q2: Right, q3: Right }

fn load_right(tile: u32) -> Right {
  return subgroupMatrixLoad<Right, col_major>(&w, tile * 32u, 2u);
}

fn load_rights(p: u32, q: u32) -> Rights {
  return Rights(
    load_right(p), load_right(p + 1u), load_right(p + 2u), load_right(p + 3u),
    load_right(q), load_right(q + 1u), load_right(q + 2u), load_right(q + 3u),
  );
}

struct Block { c00: Sums, c01: Sums, c10: Sums, c11: Sums }

fn add(block: Block, at: u32, p: Right, q: Right) -> Block {
  let a0 = subgroupMatrixLoad<Left, row_major>(&xs, at, STRIDE);
  let a1 = subgroupMatrixLoad<Left, row_major>(&xs, at + 16u * STRIDE, STRIDE);
  return Block(
    subgroupMatrixMultiplyAccumulate(a0, p, block.c00),
    subgroupMatrixMultiplyAccumulate(a0, q, block.c01),
    subgroupMatrixMultiplyAccumulate(a1, p, block.c10),
    subgroupMatrixMultiplyAccumulate(a1, q, block.c11),
  );
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  let num_chunks = 2u * params.num_k_tiles;
  let m = subgroup / 4u * 32u;
  let row_tile = group.y * 8u + subgroup % 4u * 2u;
  let p = row_tile * params.num_k_tiles;
  let q = p + params.num_k_tiles;
  // each lane brings two chunks of a slice: rows lane / 8 and 64 more
  let place = lane / CHUNKS * STRIDE + lane % CHUNKS;
  let source = (group.x * TILE + lane / CHUNKS) * num_chunks + lane % CHUNKS;
  let more = 64u * num_chunks;

  var block: Block;
  var rights = load_rights(p, q);
  xs[place] = x[source];
  xs[place + 64u * STRIDE] = x[source + more];
  workgroupBarrier();
  for (var k = 0u; k < params.num_k_tiles; k += 4u) {
    let next = min(k + 4u, params.num_k_tiles - 4u); // the last slice is loaded once more
    let x0 = x[source + 2u * next];
    let x1 = x[source + more + 2u * next];
    var now = rights;
    if (IS_AHEAD) { rights = load_rights(p + next, q + next); }
    let at = k / 4u % 2u * BUFFER + m * STRIDE;
    block = add(block, at, now.p0, now.q0);
    block = add(block, at + 2u, now.p1, now.q1);
    block = add(block, at + 4u, now.p2, now.q2);
    block = add(block, at + 6u, now.p3, now.q3);
    let other = (k / 4u + 1u) % 2u * BUFFER + place;
    xs[other] = x0;
    xs[other + 64u * STRIDE] = x1;
    workgroupBarrier();
    if (!IS_AHEAD) { rights = load_rights(p + next, q + next); }
  }
  let stride = 16u * params.num_row_tiles;
  let at = (group.x * TILE + m) * stride + 16u * row_tile;
  subgroupMatrixStore<row_major>(&y, at, block.c00, stride);
  subgroupMatrixStore<row_major>(&y, at + 16u, block.c01, stride);
  subgroupMatrixStore<row_major>(&y, at + 16u * stride, block.c10, stride);
  subgroupMatrixStore<row_major>(&y, at + 16u * stride + 16u, block.c11, stride);
}
