// linear_gemv: y[t, n] = sum_k x[t, k] * w[n, k] + b[n] for a few tokens; with swiglu
// y[t, n] = silu(g) * u, where g and u are the sums of rows n and num_outputs + n.
//
// Shapes    x: [tokens, in] f32   w: [rows, in] f32|f16|bf16   y: [tokens, out_stride] f32
// Dispatch  (x + y * num_groups.x: WG_SIZE / LANES_PER_GROUP lane groups; z: TOKENS tokens). A
//           lane group, one lane or the workgroup, sums four rows: four outputs, or with swiglu two
// Accuracy  f32 sums; rtol and atol 1e-5 against test/oracles/linear.ts
// Includes  lib/live.wgsl, lib/silu.wgsl, lib/linear_io.wgsl, lib/weights_*.wgsl, lib/place*.wgsl,
//           lib/x_*.wgsl, lib/tokens_*.wgsl, lib/row_sum_*.wgsl
override WG_SIZE: u32 = 64;

// One sum a token for each of the four rows. Named, not an array: SwiftShader keeps arrays in
// memory, and an access with a varying index costs it as much as a load from a buffer.
struct Sums { r0: Acc, r1: Acc, r2: Acc, r3: Acc }

@compute @workgroup_size(WG_SIZE)
fn main(place: Place) {
  let num_tokens = live_rows();
  let first_token = place.group.z * TOKENS;
  let lane = lane_of_group(place);
  let lane_group = (place.group.x + place.group.y * place.num_groups.x)
    * (WG_SIZE / LANES_PER_GROUP) + place.lane / LANES_PER_GROUP;
  let is_swiglu = params.is_swiglu != 0u;
  let outputs_per_group = select(4u, 2u, is_swiglu);
  let n = lane_group * outputs_per_group; // the lane group's first output

  // Outputs past the last repeat it, so that every lane reaches row_sum's barriers.
  let offsets = select(vec4u(0, 1, 2, 3), vec4u(0, 1, 0, 1), is_swiglu);
  let outputs = min(vec4u(n) + offsets, vec4u(params.num_outputs - 1u));
  let up_rows = select(0u, params.num_outputs, is_swiglu);
  let start = (outputs + vec4u(0, 0, up_rows, up_rows)) * params.num_chunks;

  var sums = Sums();
  for (var chunk = lane; chunk < params.num_chunks; chunk += LANES_PER_GROUP) {
    let xs = load_activations(chunk, first_token, num_tokens - 1u, place);
    sums.r0 += multiply(load_weights(start.x + chunk), xs);
    sums.r1 += multiply(load_weights(start.y + chunk), xs);
    sums.r2 += multiply(load_weights(start.z + chunk), xs);
    sums.r3 += multiply(load_weights(start.w + chunk), xs);
  }
  row_sum(sums, place);

  let num_values = min(TOKENS, num_tokens - first_token) * outputs_per_group;
  for (var i = lane; i < num_values; i += LANES_PER_GROUP) {
    let t = i / outputs_per_group;
    let j = i % outputs_per_group;
    store(first_token + t, n + j, totals[4u * t + j], totals[4u * t + (j + 2u) % 4u]);
  }
}
