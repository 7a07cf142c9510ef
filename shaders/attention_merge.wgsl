// attention_merge: the splits of attention_decode into one output
//   out[t, h] = sum_s e^(top_s - top) values_s / sum_s e^(top_s - top) sum_s,  top = max_s top_s
//
// Shapes    partials: [num_decode_tokens * num_splits, num_heads, head_dim + 4] f32, as attention_decode
//           writes them; where a split's sum is 0 its values are unwritten
//           out: [num_tokens, num_heads, head_dim] f32
// Dispatch  one lane for each (token, head, quad), over x and y
// Prelude   const QUADS = head_dim / 4
// Includes  lib/live.wgsl
override WG_SIZE: u32 = 64;

struct Params { num_heads: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4f>;

@compute @workgroup_size(WG_SIZE)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) num_groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let index = (group.y * num_groups.x + group.x) * WG_SIZE + lane;
  let row = index / QUADS; // token * num_heads + head
  let token = row / params.num_heads;
  if (token >= live.num_decode_tokens) { return; }
  let quad = index % QUADS;
  let stride = params.num_heads * (QUADS + 1u); // from one split to the next
  let first = token * live.num_splits * stride + row % params.num_heads * (QUADS + 1u);

  var top = partials[first + QUADS].x;
  for (var split = 1u; split < live.num_splits; split++) {
    top = max(top, partials[first + split * stride + QUADS].x);
  }
  var value = vec4f();
  var sum = 0.0;
  for (var split = 0u; split < live.num_splits; split++) {
    let begin = first + split * stride;
    let stats = partials[begin + QUADS];
    if (stats.y != 0.0) { // an empty split: 0 times unwritten memory may be NaN
      let weight = exp(stats.x - top);
      value += weight * partials[begin + quad];
      sum += weight * stats.y;
    }
  }
  out[index] = value / sum;
}
