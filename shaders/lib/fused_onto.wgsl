// fused_onto: what a GEMV binds that adds its product to the residual: y = r + x wᵀ.
@group(1) @binding(1) var<storage, read> x: array<vec4f>;
@group(1) @binding(2) var<storage, read> w: array<vec4u>;
@group(1) @binding(3) var<storage, read> b: array<f32>;
@group(1) @binding(4) var<storage, read> r: array<f32>;
@group(1) @binding(5) var<storage, read_write> y: array<f32>;

fn put(at: u32, value: f32) { y[at] = r[at] + value; }
