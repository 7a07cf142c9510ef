// sample_best: the winner of each chunk of the vocabulary, for greedy and for unfiltered rows
//   greedy: the largest logit; else: the largest logit / temperature + gumbel(seed, position, id)
//
// Shapes    logits: [max_samples, num_vocab] f32 bits    rows: [max_samples, 12]
//           lists: [num_chunks, max_samples, 130], header and entry 0 only (candidates.ts)
// Dispatch  (num_chunks, num_samples, 1): one workgroup a chunk; filtered rows are left alone
// Accuracy  exact but for near-ties of the noise (lib/random.wgsl); test/oracles/sampling.ts
// Includes  lib/sort_key.wgsl, lib/random.wgsl, lib/block_best.wgsl, sampling/sampling_row.wgsl,
//           sampling/candidate_list.wgsl
override WG_SIZE: u32 = 256; // lanes a workgroup; power of two

struct Params { num_vocab: u32, first_token_id: u32, max_samples: u32, chunk: u32, lanes: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> logits: array<u32>;
@group(1) @binding(2) var<storage, read> rows: array<u32>;
@group(1) @binding(3) var<storage, read_write> lists: array<u32>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let sample = group.y;
  let row = sample * ROW_WORDS;
  let flags = rows[row + ROW_FLAGS];
  if (is_filtered(flags)) { return; }
  let greedy = is_greedy(flags);
  let seed = rows[row + ROW_SEED];
  let position = rows[row + ROW_POSITION];
  let temperature = bitcast<f32>(rows[row + ROW_TEMPERATURE]);

  let begin = group.x * params.chunk;
  let end = min(begin + params.chunk, params.num_vocab);
  let first_id = params.first_token_id + begin;
  let end_id = params.first_token_id + end;
  let chunk_start = sample * params.num_vocab + begin;
  var best = vec2u(0u, NO_TOKEN);
  // Philox makes four words at once, so a lane takes the four ids that share them.
  for (var quad = first_id / 4u + lane; quad * 4u < end_id; quad += WG_SIZE) {
    var noise = vec4u();
    if (!greedy) { noise = quad_noise(seed, position, quad); }
    for (var word = 0u; word < 4u; word += 1u) {
      let id = quad * 4u + word;
      let is_inside = id >= first_id && id < end_id;
      var key = sort_key(logits[chunk_start + clamp(id, first_id, end_id - 1u) - first_id]);
      if (!greedy) { key = draw_key(key, temperature, noise[word]); }
      best = select(best, vec2u(key, id), is_inside && key > best.x); // ids ascend: a tie keeps the lowest
    }
  }
  best = block_best(best, lane);
  if (lane == 0u) {
    let list = list_start(group.x, sample, params.max_samples);
    lists[list + LIST_MASS] = 0u;
    lists[list + LIST_SIZE] = end - begin;
    lists[list + LIST_ENTRIES] = key_bits(best.x);
    lists[list + LIST_ENTRIES + 1u] = best.y;
  }
}
