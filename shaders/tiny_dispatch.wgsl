// tiny_dispatch: x[0] += 1; each launch waits for the one before, as in a decode step
//
// Shapes    x: [1] u32
// Dispatch  (1, 1, 1), one lane
struct Params { step: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read_write> x: array<u32>;

@compute @workgroup_size(1)
fn main() {
  x[0] += params.step;
}
