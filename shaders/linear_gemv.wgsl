// linear_gemv: y[t, n] = sum_k x[t, k] * w[n, k] + b[n] for a few tokens; with swiglu
// y[t, n] = silu(g) * u, where g and u are the sums of rows n and num_outputs + n. Fused with what comes
// before and after: x = RMSNorm(residual + partials) (lib/input_normed.wgsl, lib/residual_*.wgsl);
// y = residual + the sum (lib/fused_onto.wgsl); RoPE and the KV write (lib/rows_rope.wgsl).
//
// Shapes    x: [tokens, in] f32   w: [rows, in] f32|f16|bf16   y: [tokens, out_stride] f32
// Dispatch  (x + y * num_groups.x: WG_SIZE / LANES_PER_GROUP lane groups; z: TOKENS tokens). A
//           lane group, one lane or the workgroup, sums four rows: four outputs, or with swiglu two.
//           Workgroups take turns in STREAMS stretches of the weight: over one stretch alone, all that
//           start while a page's address is being looked up wait for it
// Accuracy  f32 sums; rtol and atol 1e-5 against test/oracles/linear.ts
// Includes  lib/live.wgsl, lib/linear_common.wgsl, lib/weights_*.wgsl, lib/place*.wgsl,
//           lib/x_*.wgsl, lib/tokens_*.wgsl, lib/row_sum_*.wgsl; lib/linear_io.wgsl or lib/fused_params.wgsl
//           and lib/fused_*.wgsl; lib/input_*.wgsl, lib/rows_*.wgsl
override WG_SIZE: u32 = 64;
override STREAMS: u32 = 1;

// One sum a token for each of the four rows. Named, not an array: SwiftShader keeps arrays in
// memory, and an access with a varying index costs it as much as a load from a buffer.
struct Sums { r0: Acc, r1: Acc, r2: Acc, r3: Acc }

// Which workgroup's rows this one takes: the n-th of a stretch, where the stretches take turns.
fn turn_of(id: u32, num_workgroups: u32) -> u32 {
  if (STREAMS == 1u) { return id; }
  let length = num_workgroups / STREAMS;
  return select(id, id % STREAMS * length + id / STREAMS, id < length * STREAMS);
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) num_groups: vec3u, place: Place) {
  let num_tokens = live_rows();
  let first_token = group.z * TOKENS;
  let lane = lane_of_group(place);
  let id = group.x + group.y * num_groups.x;
  let turn = turn_of(id, num_groups.x * num_groups.y);
  let lane_group = turn * (WG_SIZE / LANES_PER_GROUP) + place.lane / LANES_PER_GROUP;
  if (id == 0u) { write_residual(first_token, num_tokens, place); }

  let start = rows_of(lane_group) * params.num_chunks;
  var sums = Sums();
  for (var chunk = lane; chunk < params.num_chunks; chunk += LANES_PER_GROUP) {
    let xs = load_activations(chunk, first_token, num_tokens - 1u, place);
    sums.r0 += multiply(load_weights(start.x + chunk), xs);
    sums.r1 += multiply(load_weights(start.y + chunk), xs);
    sums.r2 += multiply(load_weights(start.z + chunk), xs);
    sums.r3 += multiply(load_weights(start.w + chunk), xs);
  }
  row_sum(sums, place);
  store_rows(lane_group, lane, first_token, min(TOKENS, num_tokens - first_token));
}
