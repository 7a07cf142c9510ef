// gather_rows: y[s, i] = x[indices[s], i]
//
// Shapes    x: [num_rows, hidden] f32   indices: [num_samples] u32   y: [num_samples, hidden] f32
// Dispatch  (hidden / 4 / WG_SIZE rounded up, num_samples, 1): a lane a quad
// Accuracy  exact
override WG_SIZE: u32 = 64;

struct Params { num_quads: u32, num_rows: u32 } // num_quads = hidden / 4
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> x: array<vec4f>;
@group(1) @binding(2) var<storage, read> indices: array<u32>;
@group(1) @binding(3) var<storage, read_write> y: array<vec4f>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= params.num_quads) { return; }
  let row = min(indices[id.y], params.num_rows - 1u); // the host checks; a bug must not read wild
  y[id.y * params.num_quads + id.x] = x[row * params.num_quads + id.x];
}
