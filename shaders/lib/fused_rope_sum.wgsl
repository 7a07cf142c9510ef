// fused_rope_sum: fused_rope with partials that are added to the residual x.
// Needs     KvPair
@group(1) @binding(1) var<storage, read> x: array<vec4f>;
@group(1) @binding(2) var<storage, read> w: array<vec4u>;
@group(1) @binding(3) var<storage, read> b: array<f32>;
@group(1) @binding(4) var<storage, read> norm_w: array<vec4f>;
@group(1) @binding(5) var<storage, read> partials: array<vec4f>;
@group(1) @binding(6) var<storage, read> positions: array<u32>;
@group(1) @binding(7) var<storage, read> slot_mapping: array<u32>;
@group(1) @binding(8) var<storage, read> rope_table: array<vec2f>;
@group(1) @binding(9) var<storage, read_write> q: array<vec2f>;
@group(1) @binding(10) var<storage, read_write> key_cache: array<KvPair>;
@group(1) @binding(11) var<storage, read_write> value_cache: array<KvPair>;
@group(1) @binding(12) var<storage, read_write> updated: array<vec4f>;
