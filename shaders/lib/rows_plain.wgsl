// rows_plain: a lane group's four rows are four outputs, or with swiglu the gates of two and their ups.
// Needs     params; lib/linear_store.wgsl, lib/row_sum_*.wgsl or linear_gemv_held.wgsl
fn outputs_per_group() -> u32 { return select(4u, 2u, params.is_swiglu != 0u); }

fn num_lane_groups() -> u32 { return (params.num_outputs + outputs_per_group() - 1u) / outputs_per_group(); }

// Outputs past the last repeat it, so that every lane reaches row_sum's barriers.
fn rows_of(lane_group: u32) -> vec4u {
  let is_swiglu = params.is_swiglu != 0u;
  let offsets = select(vec4u(0, 1, 2, 3), vec4u(0, 1, 0, 1), is_swiglu);
  let first = lane_group * outputs_per_group();
  let outputs = min(vec4u(first) + offsets, vec4u(params.num_outputs - 1u));
  let up_rows = select(0u, params.num_outputs, is_swiglu);
  return outputs + vec4u(0, 0, up_rows, up_rows);
}

fn store_rows(lane_group: u32, lane: u32, first_token: u32, num_tokens: u32) {
  let num_outputs = outputs_per_group();
  let first = lane_group * num_outputs;
  for (var i = lane; i < num_tokens * num_outputs; i += LANES_PER_GROUP) {
    let t = i / num_outputs;
    let j = i % num_outputs;
    store(first_token + t, first + j, total(4u * t + j), total(4u * t + (j + 2u) % 4u));
  }
}
