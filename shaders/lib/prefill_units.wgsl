// prefill_units: which tiles and heads the subgroups of attention_prefill_matrix work on, and what they see.
// Needs     params, positions, prefill_tiles; const GROUP; lib/paged_kv.wgsl
const FLOOR = -1e20; // below every score and far above NO_KEY: weights of masked keys are 0

// Neighbouring tiles of one sequence, and the units of the workgroup; the same in all lanes.
struct Run { sequence: u32, first_tile: u32, end_tile: u32, kv_head: u32, first_unit: u32, num_units: u32 }

// Keys that every row of a unit sees.
struct Sight { begin: u32, end: u32 }

// What a lane keeps of a row: the keys it sees, and its half of the softmax.
struct Row { begin: u32, end: u32, top: f32, sum: f32, shrink: f32 }

fn is_live(run: Run, unit: u32) -> bool {
  return unit < run.num_units && unit / GROUP >= run.first_tile && unit / GROUP < run.end_tile;
}

fn last_position(tile: vec4u) -> u32 { return positions[tile.y + tile.z - 1u]; }

fn sight_of(run: Run, unit: u32) -> Sight {
  if (!is_live(run, unit)) { return Sight(); }
  let tile = prefill_tiles[unit / GROUP];
  return Sight(window_begin(last_position(tile)), positions[tile.y] + 1u);
}

// Where the row of a unit lies in q and out, in rows of head_dim. Rows past the tile's tokens repeat its last.
fn query_row(run: Run, row: u32) -> u32 {
  let unit = min(run.first_unit + row / 16u, run.num_units - 1u);
  let tile = prefill_tiles[unit / GROUP];
  let token = tile.y + min(row % 16u, tile.z - 1u);
  return token * params.num_heads + run.kv_head * GROUP + unit % GROUP;
}

fn row_of(run: Run, row: u32) -> Row {
  let unit = run.first_unit + row / 16u;
  if (!is_live(run, unit)) { return Row(0u, 0u, FLOOR, 0.0, 1.0); }
  let tile = prefill_tiles[unit / GROUP];
  let position = positions[tile.y + min(row % 16u, tile.z - 1u)];
  return Row(window_begin(position), position + 1u, FLOOR, 0.0, 1.0);
}
