// linear_common: how many rows are live, and the bias of a column.
// Needs     lib/live.wgsl; params, b: lib/linear_io.wgsl, or lib/fused_params.wgsl and lib/fused_*.wgsl

fn live_rows() -> u32 {
  return select(live.num_tokens, live.num_samples, params.rows_are_samples != 0u);
}

fn bias(column: u32) -> f32 {
  if (params.has_bias == 0u) { return 0.0; }
  return b[column];
}
