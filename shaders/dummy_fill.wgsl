// dummy_fill: rows of pseudo-random weights, the same bits as models/weights/dummy.ts, whose
// comment gives the formula: values depend on seed, row and column of the whole tensor alone.
//
// Shapes    y: [.., out_columns] f32, or f16 or bf16 two to a u32; written are num_rows rows from
//           out_row on. Past num_columns they hold zeros
// Dispatch  (x + y * num_groups.x: workgroups of WG_SIZE words)
// Accuracy  exact: every value fits all three dtypes
// Includes  lib/float_bits.wgsl, lib/narrow_to.wgsl
override WG_SIZE: u32 = 64;

struct Params {
  seed: u32,
  first_row: u32,    // of the whole tensor
  first_column: u32,
  num_columns: u32,
  out_row: u32,
  words_per_row: u32, // out_columns, or half of them
  num_words: u32,     // num_rows * words_per_row
  is_norm: u32,       // 1 + (floor(byte / 8) - 16) / 128, else (2 * byte - 255) / 256 * scale
  scale: f32,
}
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read_write> y: array<u32>;

fn mix(value: u32) -> u32 {
  var x = value ^ (value >> 16u);
  x *= 0x85ebca6bu;
  x ^= x >> 13u;
  x *= 0xc2b2ae35u;
  return x ^ (x >> 16u);
}

// The f32 bits of one element; `column` counts from first_column.
fn element(row_hash: u32, column: u32) -> u32 {
  if (column >= params.num_columns) { return 0u; }
  let of_tensor = params.first_column + column;
  let hash = mix(row_hash ^ ((of_tensor / 4u) * 0x9e3779b1u));
  let byte = (hash >> (8u * (of_tensor % 4u))) & 255u;
  if (params.is_norm != 0u) { return bitcast<u32>(1.0 + (f32(byte / 8u) - 16.0) / 128.0); }
  return bitcast<u32>((f32(2u * byte) - 255.0) / 256.0 * params.scale);
}

@compute @workgroup_size(WG_SIZE)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) num_groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let word = (group.x + group.y * num_groups.x) * WG_SIZE + lane;
  if (word >= params.num_words) { return; }
  let row = word / params.words_per_row;
  let of_row = word % params.words_per_row;
  let row_hash = mix(params.seed + (params.first_row + row) * 0x9e3779b9u);
  let at = params.out_row * params.words_per_row + word;
  if (TO == F32) {
    y[at] = element(row_hash, of_row);
  } else {
    let low = narrow(element(row_hash, 2u * of_row));
    y[at] = low | (narrow(element(row_hash, 2u * of_row + 1u)) << 16u);
  }
}
