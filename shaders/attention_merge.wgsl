// attention_merge: the splits of attention_decode into one output
//   out[t, h] = sum_s e^(top_s - top) values_s / sum_s e^(top_s - top) sum_s,  top = max_s top_s
//
// Shapes    partials: [num_decode_tokens * num_splits, num_heads, head_dim + 4] f32, as attention_decode
//           writes them; where a split's sum is 0 its values are unwritten
//           out: [num_tokens, num_heads, head_dim] f32
// Dispatch  (num_heads, num_decode_tokens, 1): PARTS lanes share a quad, each merging every PARTS-th
//           split, as a lane that walks them all waits for memory at each
// Prelude   const QUADS = head_dim / 4, PARTS
// Includes  lib/live.wgsl, lib/attention_out.wgsl
const LANES = QUADS * PARTS;
const FLOOR = -1e20; // below every top of a split that has keys

struct Params { num_heads: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> partials: array<vec4f>;
@group(1) @binding(2) var<storage, read_write> out: array<Quad>;

struct Merged { value: vec4f, top: f32, sum: f32 }
var<workgroup> parts: array<Merged, LANES>;

fn merge(a: Merged, b: Merged) -> Merged {
  let top = max(a.top, b.top);
  let old = exp(a.top - top);
  let fresh = exp(b.top - top);
  return Merged(a.value * old + b.value * fresh, top, a.sum * old + b.sum * fresh);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let quad = lane % QUADS;
  let stride = params.num_heads * (QUADS + 1u); // from one split to the next
  let first = group.y * live.num_splits * stride + group.x * (QUADS + 1u);
  var merged = Merged(vec4f(), FLOOR, 0.0);
  for (var split = lane / QUADS; split < live.num_splits; split += PARTS) {
    let begin = first + split * stride;
    let stats = partials[begin + QUADS];
    let value = partials[begin + quad];
    let is_empty = stats.y == 0.0; // then 0 times unwritten memory may be NaN
    merged = merge(merged, Merged(select(value, vec4f(), is_empty), max(stats.x, FLOOR), stats.y));
  }
  parts[lane] = merged;
  workgroupBarrier();
  if (lane >= QUADS) { return; }
  for (var part = 1u; part < PARTS; part++) { merged = merge(merged, parts[part * QUADS + lane]); }
  put_out(group.y, group.x, quad, merged.value / merged.sum);
}
