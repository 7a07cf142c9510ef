/**
 * The WGSL of gemm_tiles: y[t, n] = sum_k x[t, k] * w[n, k] on tensor cores, over a weight in tiles (shaders/to_tiles.wgsl).
 *
 * Tiles go from device memory straight into matrices, each as soon as the one before it in its place has been
 * multiplied, so that no lane and no workgroup memory passes weights on. Activations go through two buffers of
 * workgroup memory, so that a slice of 64 of k takes one barrier.
 *
 * Shapes    x: [tokens, in] f16   w: [rows / 16, in / 16, 16, 16] f16   y: [tokens, rows] f32
 *           tokens: a multiple of 128   rows: of 256   in: of 128
 * Dispatch  (tokens / 128, rows / 256): tokens vary fastest, so that workgroups which run together share rows of w
 * Tile      128 tokens x 256 rows x 64 of k; 8 subgroups, each all tokens x 32 rows
 *
 * Written out here, with every matrix a variable of its own and a buffer an array of its own. On an H200, 4096
 * cubed, a kernel of this form reached 292 TFLOP/s (results/h200-2026-11-28/matrix-kernels.txt), and one with
 * functions over structs of matrices 242 (tiledWeights.txt there). This text has not been timed yet.
 */
const [TOKEN_TILES, ROW_TILES, SLICE] = [8, 2, 4]; // tiles of tokens and rows a subgroup, of k a slice
const [LANES, CHUNKS, STRIDE] = [256, 8, 9]; // chunks of 8 halves in a token's slice; a row's distance

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
const lines = (count: number, line: (i: number) => string): string =>
  range(count).map(line).join("\n");
const eachSum = (line: (i: number, j: number) => string): string =>
  lines(TOKEN_TILES, (i) => lines(ROW_TILES, (j) => line(i, j)));
const eachWeight = (line: (s: number, j: number) => string): string =>
  lines(SLICE, (s) => lines(ROW_TILES, (j) => line(s, j)));

const LOADS = (16 * TOKEN_TILES * CHUNKS) / LANES; // of a slice of activations, a lane
const LANE_TOKENS = LANES / CHUNKS;

const loadWeight = (s: number, j: number, k: string): string =>
  `b${s}_${j} = subgroupMatrixLoad<Right, col_major>(&w, (t${j} + ${k} + ${s}u) * 32u, 2u);`;
const loadTokens = (k: string): string =>
  lines(LOADS, (i) => `let x${i} = x[source + ${i * LANE_TOKENS}u * num_chunks + 2u * ${k}];`);
const storeTokens = (buffer: number): string =>
  lines(LOADS, (i) => `xs${buffer}[place + ${i * LANE_TOKENS * STRIDE}u] = x${i};`);

/** One of a slice's four steps: its products, then the loads of the next slice's weights. */
function step(buffer: number, s: number): string {
  const products = lines(
    TOKEN_TILES,
    (i) =>
      `let a${s}_${i} = subgroupMatrixLoad<Left, row_major>(&xs${buffer}, ${16 * i * STRIDE}u + ${2 * s}u, ${STRIDE}u);\n` +
      lines(
        ROW_TILES,
        (j) => `c${i}_${j} = subgroupMatrixMultiplyAccumulate(a${s}_${i}, b${s}_${j}, c${i}_${j});`,
      ),
  );
  return `${products}\n${lines(ROW_TILES, (j) => loadWeight(s, j, "next"))}`;
}

/** A slice from one buffer, while the next one goes into the other. */
function slice(buffer: number): string {
  return `{
let next = min(k + ${SLICE * (buffer + 1)}u, last); // the last slice is loaded once more
${loadTokens("next")}
${lines(SLICE, (s) => step(buffer, s))}
${storeTokens(1 - buffer)}
workgroupBarrier();
}`;
}

/** After MATRIX_PRELUDE. */
export const GEMM_TILES = `
alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sums = subgroup_matrix_result<f32, 16, 16>;
struct Params { num_row_tiles: u32, num_k_tiles: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4u>;
@group(0) @binding(2) var<storage, read> w: array<vec4u>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
var<workgroup> xs0: array<vec4u, ${16 * TOKEN_TILES * STRIDE}>;
var<workgroup> xs1: array<vec4u, ${16 * TOKEN_TILES * STRIDE}>;

@compute @workgroup_size(${LANES})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
let num_chunks = 2u * params.num_k_tiles;
let last = params.num_k_tiles - ${SLICE}u;
let row_tile = (group.y * 8u + subgroup) * ${ROW_TILES}u;
let place = lane / ${CHUNKS}u * ${STRIDE}u + lane % ${CHUNKS}u;
let source = (group.x * ${16 * TOKEN_TILES}u + lane / ${CHUNKS}u) * num_chunks + lane % ${CHUNKS}u;
${lines(ROW_TILES, (j) => `let t${j} = (row_tile + ${j}u) * params.num_k_tiles;`)}
${eachSum((i, j) => `var c${i}_${j}: Sums;`)}
${eachWeight((s, j) => `var ${loadWeight(s, j, "0u")}`)}
{
${loadTokens("0u")}
${storeTokens(0)}
}
workgroupBarrier();
for (var k = 0u; k < params.num_k_tiles; k += ${2 * SLICE}u) {
${slice(0)}
${slice(1)}
}
let stride = 16u * params.num_row_tiles;
let at = group.x * ${16 * TOKEN_TILES}u * stride + 16u * row_tile;
${eachSum((i, j) => `subgroupMatrixStore<row_major>(&y, at + ${16 * i}u * stride + ${16 * j}u, c${i}_${j}, stride);`)}
}`;
