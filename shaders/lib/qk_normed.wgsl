// qk_normed: the outputs of qk_norm_rope where each head of q and k is RMS-normalised (Qwen3).
// Every lane sums its head's squares itself: head_dim / 4 loads that the lanes of a head share in
// cache cost less than a barrier, on software adapters most of all.
@group(1) @binding(5) var<storage, read> q_norm: array<vec4f>;
@group(1) @binding(6) var<storage, read> k_norm: array<vec4f>;
@group(1) @binding(7) var<storage, read_write> q: array<vec4f>;
@group(1) @binding(8) var<storage, read_write> key_cache: array<KvQuad>;
@group(1) @binding(9) var<storage, read_write> value_cache: array<KvQuad>;

fn normalise(pair: Pair, row: u32, at: u32, is_key: bool) -> Pair {
  var squares = vec4f();
  for (var quad = 0u; quad < QUADS; quad++) {
    let value = qkv_quad(row + quad);
    squares += value * value;
  }
  let mean = dot(squares, vec4f(1.0)) / f32(QUADS * 4u);
  let scale = inverseSqrt(mean + params.eps);
  if (is_key) { return Pair(pair.low * k_norm[at] * scale, pair.high * k_norm[at + HALF] * scale); }
  return Pair(pair.low * q_norm[at] * scale, pair.high * q_norm[at + HALF] * scale);
}
