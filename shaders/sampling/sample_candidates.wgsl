// sample_candidates: the 64 largest logits of each chunk of the vocabulary, sorted, and the chunk's
// probability mass, for filtered rows
//
// A radix select finds the 64th in the order (logit descending, id ascending): its digits are the
// 4 bytes of the sort key, then, only while ties remain, the 3 bytes of the inverted index. The
// histograms count integers, so the result does not depend on the order of the atomics.
//
// Shapes    logits: [max_samples, num_vocab] f32 bits    rows: [max_samples, 12]
//           lists: [num_chunks, max_samples, 130] (candidateLayout.ts)
// Dispatch  (num_chunks, num_samples, 1): one workgroup a chunk; only filtered rows do work
// Accuracy  exact; mass rtol 1e-5 against test/oracles/sampling.ts
// Includes  lib/sort_key.wgsl, lib/random.wgsl, lib/bitonic64.wgsl, lib/block_sum.wgsl,
//           sampling/sampling_row.wgsl, sampling/candidate_list.wgsl
override WG_SIZE: u32 = 256; // lanes a workgroup; power of two, at least 64

struct Params { num_vocab: u32, first_token_id: u32, max_samples: u32, chunk: u32, lanes: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> logits: array<u32>;
@group(1) @binding(2) var<storage, read> rows: array<u32>;
@group(1) @binding(3) var<storage, read_write> lists: array<u32>;

const DIGITS: u32 = 256u;
const NUM_BINS_A_SUM: u32 = 16u;
const MAX_INDEX: u32 = 0xffffffu; // an index has 3 digits
var<workgroup> histogram: array<atomic<u32>, DIGITS>;
var<workgroup> bin_sums: array<u32, DIGITS / NUM_BINS_A_SUM>;
var<workgroup> chosen: vec3u; // digit, how many are still wanted from its bin, 1 if the bin holds just these
var<workgroup> num_collected: atomic<u32>;
var<workgroup> collected: array<vec2u, MAX_CANDIDATES>;

// (key, inverted index), larger first; only the bits under `mask` are known to matter.
struct Threshold { value: vec2u, mask: vec2u }

// The digit's bin that holds the wanted-th element from the top. Called in uniform control flow.
fn choose_bin(wanted: u32, lane: u32) -> vec3u {
  if (lane < DIGITS / NUM_BINS_A_SUM) {
    var sum = 0u;
    for (var i = 0u; i < NUM_BINS_A_SUM; i += 1u) {
      sum += atomicLoad(&histogram[lane * NUM_BINS_A_SUM + i]);
    }
    bin_sums[lane] = sum;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var left = wanted;
    var group = DIGITS / NUM_BINS_A_SUM - 1u;
    while (group > 0u && bin_sums[group] < left) {
      left -= bin_sums[group];
      group -= 1u;
    }
    var digit = group * NUM_BINS_A_SUM + NUM_BINS_A_SUM - 1u;
    while (digit > group * NUM_BINS_A_SUM && atomicLoad(&histogram[digit]) < left) {
      left -= atomicLoad(&histogram[digit]);
      digit -= 1u;
    }
    chosen = vec3u(digit, left, select(0u, 1u, atomicLoad(&histogram[digit]) == left));
  }
  return workgroupUniformLoad(&chosen);
}

// The threshold that exactly 64 of `count` > 64 elements reach. Called in uniform control flow.
fn find_threshold(start: u32, count: u32, lane: u32) -> Threshold {
  var found = Threshold(vec2u(), vec2u());
  var wanted = MAX_CANDIDATES;
  for (var pass_index = 0u; pass_index < 7u; pass_index += 1u) {
    let by_key = pass_index < 4u;
    let shift = select(48u - 8u * pass_index, 24u - 8u * pass_index, by_key);
    for (var bin = lane; bin < DIGITS; bin += WG_SIZE) { atomicStore(&histogram[bin], 0u); }
    workgroupBarrier();
    for (var i = lane; i < count; i += WG_SIZE) {
      let element = vec2u(sort_key(logits[start + i]), MAX_INDEX - i);
      if (all(((element ^ found.value) & found.mask) == vec2u())) {
        let digit = (select(element.y, element.x, by_key) >> shift) & 255u;
        atomicAdd(&histogram[digit], 1u);
      }
    }
    workgroupBarrier();
    let choice = choose_bin(wanted, lane);
    let digit_at = select(vec2u(0u, 1u), vec2u(1u, 0u), by_key) << vec2u(shift);
    found.value |= choice.x * digit_at;
    found.mask |= 255u * digit_at;
    wanted = choice.y;
    if (choice.z == 1u) { break; }
  }
  return found;
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let sample = group.y;
  let row = sample * ROW_WORDS;
  if (!is_filtered(rows[row + ROW_FLAGS])) { return; }
  let temperature = bitcast<f32>(rows[row + ROW_TEMPERATURE]);
  let begin = group.x * params.chunk;
  let count = min(params.chunk, params.num_vocab - begin);
  let start = sample * params.num_vocab + begin;

  var threshold = Threshold(vec2u(), vec2u()); // everything reaches it
  if (count > MAX_CANDIDATES) { threshold = find_threshold(start, count, lane); }

  if (lane == 0u) { atomicStore(&num_collected, 0u); }
  if (lane < MAX_CANDIDATES) { collected[lane] = vec2u(NEG_INF_KEY, NO_TOKEN); }
  workgroupBarrier();
  for (var i = lane; i < count; i += WG_SIZE) {
    let key = sort_key(logits[start + i]);
    let known = vec2u(key, MAX_INDEX - i) & threshold.mask;
    let least = threshold.value;
    if (known.x > least.x || (known.x == least.x && known.y >= least.y)) {
      let place = atomicAdd(&num_collected, 1u); // any order: the sort follows
      collected[place] = vec2u(key, params.first_token_id + begin + i);
    }
  }
  workgroupBarrier();
  let pair = bitonic_sort(collected[lane % MAX_CANDIDATES], lane);
  if (lane < MAX_CANDIDATES) { collected[lane] = pair; }
  workgroupBarrier();

  let top_key = collected[0].x;
  var mass = 0.0;
  for (var i = lane; i < count; i += WG_SIZE) {
    mass += relative_weight(sort_key(logits[start + i]), top_key, temperature);
  }
  mass = block_sum(mass, lane);
  let list = list_start(group.x, sample, params.max_samples);
  if (lane == 0u) {
    lists[list + LIST_MASS] = bitcast<u32>(mass);
    lists[list + LIST_SIZE] = count;
  }
  if (lane < MAX_CANDIDATES) {
    lists[list + LIST_ENTRIES + 2u * lane] = key_bits(pair.x);
    lists[list + LIST_ENTRIES + 2u * lane + 1u] = pair.y;
  }
}
