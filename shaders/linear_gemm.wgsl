// linear_gemm: y[t, n] = sum_k x[t, k] * w[n, k] + b[n] for many tokens; with swiglu
// y[t, n] = silu(g) * u, where g and u are the sums of rows n and num_outputs + n.
//
// Shapes    x: [tokens, in] f32   w: [rows, in] f32|f16|bf16   y: [tokens, out_stride] f32
// Dispatch  (x: tiles of 64 rows of w, which are 64 outputs or with swiglu 32; y: tiles of 64
//           tokens); 256 lanes, each 4 tokens by 4 rows
// Memory    16 KiB of workgroup memory, the least that WebGPU guarantees
// Accuracy  f32 sums; rtol and atol 1e-5 against test/oracles/linear.ts
// Includes  lib/live.wgsl, lib/silu.wgsl, lib/linear_io.wgsl, lib/linear_common.wgsl,
//           lib/linear_store.wgsl, lib/weights_*.wgsl
const TILE = 64u;        // tokens, and rows of w
const TILE_CHUNKS = 4u;  // of 8 elements along in
const ROW_VECS = 8u;     // vec4f of a row of a tile

var<workgroup> x_tile: array<vec4f, 512>; // [TILE, ROW_VECS]
var<workgroup> w_tile: array<vec4f, 512>; // [TILE, ROW_VECS]

// Rows are 32 banks apart; the xor spreads one column of eight rows over all banks.
fn tile_index(row: u32, vec: u32) -> u32 { return row * ROW_VECS + (vec ^ (row % ROW_VECS)); }

fn dot_add(sum: f32, a: vec4f, b: vec4f) -> f32 {
  return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

fn dot_add4(sums: vec4f, a: vec4f, b0: vec4f, b1: vec4f, b2: vec4f, b3: vec4f) -> vec4f {
  return vec4f(
    dot_add(sums.x, a, b0), dot_add(sums.y, a, b1), dot_add(sums.z, a, b2), dot_add(sums.w, a, b3),
  );
}

// Sums of a token for rows tx, tx + 16, tx + 32, tx + 48 of the tile; with swiglu the first two
// are gates and the last two their ups.
fn store_tile(token: u32, first_output: u32, tx: u32, sums: vec4f) {
  if (token >= live_rows()) { return; }
  let n = first_output + tx;
  store(token, n, sums.x, sums.z);
  store(token, n + 16u, sums.y, sums.w);
  if (params.is_swiglu == 0u) {
    store(token, n + 32u, sums.z, 0.0);
    store(token, n + 48u, sums.w, 0.0);
  }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let is_swiglu = params.is_swiglu != 0u;
  let first_token = group.y * TILE;
  let first_output = group.x * select(TILE, TILE / 2u, is_swiglu);

  // Loading: four lanes a row, a chunk each. Rows past the last repeat it.
  let load_row = lane / TILE_CHUNKS;
  let load_chunk = lane % TILE_CHUNKS;
  let load_token = min(first_token + load_row, max(live_rows(), 1u) - 1u);
  let load_output =
    min(first_output + select(load_row, load_row % 32u, is_swiglu), params.num_outputs - 1u);
  let is_up = is_swiglu && load_row >= 32u;
  let weight_row = load_output + select(0u, params.num_outputs, is_up);

  let tx = lane % 16u;
  let ty = lane / 16u;
  var sums0 = vec4f(); // token ty
  var sums1 = vec4f(); // token ty + 16
  var sums2 = vec4f();
  var sums3 = vec4f();
  for (var first = 0u; first < params.num_chunks; first += TILE_CHUNKS) {
    let chunk = first + load_chunk;
    var x_chunk = mat2x4f();
    var w_chunk = Weights8();
    if (chunk < params.num_chunks) {
      let at = 2u * (load_token * params.num_chunks + chunk);
      x_chunk = mat2x4f(x[at], x[at + 1u]);
      w_chunk = load_weights(weight_row * params.num_chunks + chunk);
    }
    workgroupBarrier(); // all lanes are done with the last tile
    x_tile[tile_index(load_row, 2u * load_chunk)] = x_chunk[0];
    x_tile[tile_index(load_row, 2u * load_chunk + 1u)] = x_chunk[1];
    w_tile[tile_index(load_row, 2u * load_chunk)] = w_chunk.lo;
    w_tile[tile_index(load_row, 2u * load_chunk + 1u)] = w_chunk.hi;
    workgroupBarrier();
    for (var k = 0u; k < ROW_VECS; k++) {
      let w0 = w_tile[tile_index(tx, k)];
      let w1 = w_tile[tile_index(tx + 16u, k)];
      let w2 = w_tile[tile_index(tx + 32u, k)];
      let w3 = w_tile[tile_index(tx + 48u, k)];
      sums0 = dot_add4(sums0, x_tile[tile_index(ty, k)], w0, w1, w2, w3);
      sums1 = dot_add4(sums1, x_tile[tile_index(ty + 16u, k)], w0, w1, w2, w3);
      sums2 = dot_add4(sums2, x_tile[tile_index(ty + 32u, k)], w0, w1, w2, w3);
      sums3 = dot_add4(sums3, x_tile[tile_index(ty + 48u, k)], w0, w1, w2, w3);
    }
  }
  store_tile(first_token + ty, first_output, tx, sums0);
  store_tile(first_token + ty + 16u, first_output, tx, sums1);
  store_tile(first_token + ty + 32u, first_output, tx, sums2);
  store_tile(first_token + ty + 48u, first_output, tx, sums3);
}
