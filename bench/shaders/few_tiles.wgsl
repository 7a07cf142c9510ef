// few_tiles: y[s, t, n] = sum over part s of k of x[t, k] * w[n, k] on tensor cores, for batched decode over a
// weight in tiles (to_tiles.wgsl): tiles go from device memory straight into matrices, activations through
// workgroup memory, a slice of k at a time
//
// Shapes    x: [32, in] f16   w: [rows / 16, in / 16, 16, 16] f16   y: [SPLITS, 32, rows] f32
//           in: a multiple of 16 * SLICE   rows: a multiple of 16 * ROW_TILES
// Dispatch  (rows / 16 / ROW_TILES / SUBGROUPS rounded up, 1, SPLITS): a subgroup takes ROW_TILES tiles of rows and all
//           tokens; one past the end repeats the last
// Accuracy  f16 products, f32 sums
// Needs     subgroups of 32; matrices of f16, 16 x 16 x 16, with f32 results
// Prelude   const SUBGROUPS, ROW_TILES (1 or 2), SLICE (tiles of k, a multiple of 4), SPLITS
alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sums = subgroup_matrix_result<f32, 16, 16>;

const LANES = 32u * SUBGROUPS;
const TOKENS = 32u;
const CHUNKS = 2u * SLICE;  // of 8 halves in a token's slice
const STRIDE = CHUNKS + 1u; // against bank conflicts

struct Params { num_row_tiles: u32, num_k_tiles: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4u>;
@group(0) @binding(2) var<storage, read> w: array<vec4u>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

var<workgroup> xs: array<vec4u, TOKENS * STRIDE>;

struct Four { a: Right, b: Right, c: Right, d: Right }

// Four neighbouring tiles of k: all loads before the first product.
fn load_four(tile: u32) -> Four {
  return Four(
    subgroupMatrixLoad<Right, col_major>(&w, tile * 32u, 2u),
    subgroupMatrixLoad<Right, col_major>(&w, tile * 32u + 32u, 2u),
    subgroupMatrixLoad<Right, col_major>(&w, tile * 32u + 64u, 2u),
    subgroupMatrixLoad<Right, col_major>(&w, tile * 32u + 96u, 2u),
  );
}

fn load_left(tokens: u32, k: u32) -> Left {
  return subgroupMatrixLoad<Left, row_major>(&xs, tokens * STRIDE + 2u * k, STRIDE);
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  let row_tile = min((group.x * SUBGROUPS + subgroup) * ROW_TILES, params.num_row_tiles - ROW_TILES);
  let tiles = row_tile * params.num_k_tiles;
  let num_chunks = 2u * params.num_k_tiles;
  var c00: Sums; // tokens 0 to 15, first tile of rows
  var c01: Sums;
  var c10: Sums;
  var c11: Sums;
  for (var slice = group.z * SLICE; slice < params.num_k_tiles; slice += SPLITS * SLICE) {
    workgroupBarrier();
    for (var i = lane; i < TOKENS * CHUNKS; i += LANES) {
      xs[i / CHUNKS * STRIDE + i % CHUNKS] = x[i / CHUNKS * num_chunks + 2u * slice + i % CHUNKS];
    }
    workgroupBarrier();
    for (var k = 0u; k < SLICE; k += 4u) {
      let p = load_four(tiles + slice + k);
      if (ROW_TILES > 1u) {
        let q = load_four(tiles + params.num_k_tiles + slice + k);
        c01 = add_four(c01, 0u, k, q);
        c11 = add_four(c11, 16u, k, q);
      }
      c00 = add_four(c00, 0u, k, p);
      c10 = add_four(c10, 16u, k, p);
    }
  }
  let stride = 16u * params.num_row_tiles;
  let at = group.z * TOKENS * stride + 16u * row_tile;
  subgroupMatrixStore<row_major>(&y, at, c00, stride);
  subgroupMatrixStore<row_major>(&y, at + 16u * stride, c10, stride);
  if (ROW_TILES > 1u) {
    subgroupMatrixStore<row_major>(&y, at + 16u, c01, stride);
    subgroupMatrixStore<row_major>(&y, at + 16u * stride + 16u, c11, stride);
  }
}

fn add_four(sums: Sums, tokens: u32, k: u32, w4: Four) -> Sums {
  var total = subgroupMatrixMultiplyAccumulate(load_left(tokens, k), w4.a, sums);
  total = subgroupMatrixMultiplyAccumulate(load_left(tokens, k + 1u), w4.b, total);
  total = subgroupMatrixMultiplyAccumulate(load_left(tokens, k + 2u), w4.c, total);
  return subgroupMatrixMultiplyAccumulate(load_left(tokens, k + 3u), w4.d, total);
}
