// gather_rows: y[s, i] = x[rows[s], i]
//
// Shapes    x: [num_tokens, hidden] f32    rows: [num_samples] u32    y: [num_samples, hidden] f32
// Dispatch  (num_samples, 1, 1): one workgroup a row
// Accuracy  exact
override WG_SIZE: u32 = 256; // lanes a workgroup

struct Params { hidden: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let from_row = rows[group.x] * params.hidden;
  let to_row = group.x * params.hidden;
  for (var i = lane; i < params.hidden; i += WG_SIZE) { y[to_row + i] = x[from_row + i]; }
}
