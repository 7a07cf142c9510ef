// heads_many: Heads, one f32 a query head that shares a KV head, for two to four heads.
// Prelude   alias Heads = vec2f, vec3f or vec4f
fn head_at(heads: Heads, index: u32) -> f32 { return heads[index]; }
fn with_head(heads: Heads, index: u32, value: f32) -> Heads {
  var changed = heads;
  changed[index] = value;
  return changed;
}
