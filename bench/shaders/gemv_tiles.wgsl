// gemv_tiles: y[n] = sum_k x[k] * w[n, k] for one token, over a weight in tiles (to_tiles.wgsl)
//
// Shapes    x: [in] f32   w: [rows / 16, in / 16, 16, 16] f16   y: [rows] f32   rows: a multiple of 16 * ROW_TILES
// Dispatch  (rows / 16 / ROW_TILES): 32 lanes read a tile, 16 bytes each: a lane has half a row of it.
//           The workgroup's runs of 32 lanes take every WG_SIZE / 32-th tile of k
// Accuracy  f32 sums
// Prelude   const ROW_TILES
override WG_SIZE: u32 = 128;

struct Params { num_k_tiles: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read> w: array<vec4u>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

var<workgroup> sums: array<f32, ROW_TILES * WG_SIZE>;

fn product(q: vec4u, lo: vec4f, hi: vec4f) -> f32 {
  return dot(vec4f(unpack2x16float(q.x), unpack2x16float(q.y)), lo)
    + dot(vec4f(unpack2x16float(q.z), unpack2x16float(q.w)), hi);
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let place = lane % 32u;
  let first = group.x * ROW_TILES;
  var totals: array<f32, ROW_TILES>;
  for (var r = 0u; r < ROW_TILES; r++) { totals[r] = 0.0; }
  for (var k = lane / 32u; k < params.num_k_tiles; k += WG_SIZE / 32u) {
    let at = 4u * k + 2u * (place % 2u);
    let lo = x[at];
    let hi = x[at + 1u];
    for (var r = 0u; r < ROW_TILES; r++) {
      totals[r] += product(w[((first + r) * params.num_k_tiles + k) * 32u + place], lo, hi);
    }
  }
  for (var r = 0u; r < ROW_TILES; r++) { sums[r * WG_SIZE + lane] = totals[r]; }
  workgroupBarrier();
  for (var row = lane; row < 16u * ROW_TILES; row += WG_SIZE) {
    var sum = 0.0;
    for (var part = 0u; part < WG_SIZE; part += 32u) {
      let at = row / 16u * WG_SIZE + part + row % 16u * 2u;
      sum += sums[at] + sums[at + 1u];
    }
    y[first * 16u + row] = sum;
  }
}
