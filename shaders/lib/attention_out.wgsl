// attention_out: where a quad of a head's result goes, f32 in rows or f16 in tiles.
// Needs     params.num_heads; const QUADS; var out: array<Quad>; lib/quad_f32.wgsl, or lib/tiles.wgsl and lib/quad_f16.wgsl
fn put_out(token: u32, head: u32, quad: u32, value: vec4f) {
  out[quad_at(token, head * QUADS + quad, params.num_heads * QUADS)] = quad_of(value);
}
