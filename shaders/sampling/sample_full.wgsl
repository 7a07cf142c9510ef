// sample_full: min-p, top-k, top-p and the draw over a row's whole vocabulary, for rows that
// 64 candidates do not decide
//
// Tokens are ordered by (logit descending, id ascending); top-k and top-p each keep a prefix of that
// order. Its last token is found digit by digit (3 bits a pass over the row) from the sort key: the
// largest digit whose tokens, with all above, hold the wanted count or mass. Ties on the key are
// then cut by id the same way. Sums have a fixed order, so the same bits come out each run.
//
// Shapes    logits: [num_rows, vocab] f32 bits    rows: [max_samples, 12]
//           full_rows: [max_samples], the sample's row of logits or NO_TOKEN for "not this one"
//           sampled_ids: [max_samples] u32    last_token: [max_seqs] u32
// Dispatch  (num_samples, 1, 1): one workgroup a sample
// Accuracy  as pick_token.wgsl
// Includes  lib/sort_key.wgsl, lib/random.wgsl, lib/block_best.wgsl, lib/block_sum.wgsl,
//           sampling/sampling_row.wgsl
override WG_SIZE: u32 = 256; // lanes a workgroup; power of two

struct Params { vocab: u32, num_rows: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read> full_rows: array<u32>;
@group(0) @binding(4) var<storage, read_write> sampled_ids: array<u32>;
@group(0) @binding(5) var<storage, read_write> last_token: array<u32>;

const MAX_INDEX: u32 = 0xffffffu; // ids have 24 bits here
const BY_COUNT: u32 = 0u;
const BY_MASS: u32 = 1u;
const TIES: u32 = 2u; // the number of tokens whose key is that of the threshold

struct Filter {
  start: u32, // of the row in logits
  top_key: u32,
  temperature: f32,
  min_p: f32,
  least: vec2u, // (key, inverted id) of the last survivor so far
}

// What the token at index i adds: 0 if a filter has dropped it.
fn measure(kind: u32, key: u32, inverted: u32, filter_by: Filter) -> f32 {
  if (key < filter_by.least.x || (key == filter_by.least.x && inverted < filter_by.least.y)) { return 0.0; }
  if (kind == TIES) { return select(0.0, 1.0, key == filter_by.least.x); }
  if (kind == BY_COUNT && filter_by.min_p <= 0.0) { return 1.0; }
  let weight = relative_weight(key, filter_by.top_key, filter_by.temperature);
  if (weight < filter_by.min_p) { return 0.0; }
  return select(weight, 1.0, kind == BY_COUNT);
}

// Four keys at once keep four loads in flight; past the end 0, below every threshold.
fn load_keys(start: u32, index: u32) -> vec4u {
  var keys = vec4u();
  for (var j = 0u; j < 4u; j += 1u) {
    let i = index + j * WG_SIZE;
    if (i < params.vocab) { keys[j] = sort_key(logits[start + i]); }
  }
  return keys;
}

fn total(kind: u32, filter_by: Filter, lane: u32) -> f32 {
  var sum = 0.0;
  for (var base = lane; base < params.vocab; base += 4u * WG_SIZE) {
    let keys = load_keys(filter_by.start, base);
    for (var j = 0u; j < 4u; j += 1u) {
      sum += measure(kind, keys[j], MAX_INDEX - (base + j * WG_SIZE), filter_by);
    }
  }
  return block_sum(sum, lane);
}

var<workgroup> sum4_partials: array<vec4f, WG_SIZE / 2u>;

// block_sum for four numbers, in half the memory.
fn block_sum4(value: vec4f, lane: u32) -> vec4f {
  let half = WG_SIZE / 2u;
  if (lane >= half) { sum4_partials[lane - half] = value; }
  workgroupBarrier();
  if (lane < half) { sum4_partials[lane] += value; }
  workgroupBarrier();
  for (var step = half / 2u; step > 0u; step /= 2u) {
    if (lane < step) { sum4_partials[lane] += sum4_partials[lane + step]; }
    workgroupBarrier();
  }
  let sum = sum4_partials[0];
  workgroupBarrier();
  return sum;
}

// The largest threshold t such that the survivors at or above t hold `wanted`, and what those above
// t hold. By key, or, for ties on the key, by inverted id. Called in uniform control flow.
struct Found { threshold: u32, above: f32 }
fn search(kind: u32, by_key: bool, wanted: f32, filter_by: Filter, lane: u32) -> Found {
  var found = Found(0u, 0.0);
  var mask = 0u;
  // 33 bits by threes for the key (the first digit has two), 24 for the id
  for (var shift = select(21i, 30i, by_key); shift >= 0i; shift -= 3i) {
    var low = vec4f(); // sums over digits >= 0, 1, 2, 3
    var high = vec4f(); // ... >= 4, 5, 6, 7
    for (var base = lane; base < params.vocab; base += 4u * WG_SIZE) {
      let keys = load_keys(filter_by.start, base);
      for (var j = 0u; j < 4u; j += 1u) {
        let inverted = MAX_INDEX - (base + j * WG_SIZE);
        let searched = select(inverted, keys[j], by_key);
        if (((searched ^ found.threshold) & mask) != 0u) { continue; }
        if (!by_key && keys[j] != filter_by.least.x) { continue; }
        let part = measure(kind, keys[j], inverted, filter_by);
        let digit = vec4u((searched >> u32(shift)) & 7u);
        low += select(vec4f(), vec4f(part), digit >= vec4u(0u, 1u, 2u, 3u));
        high += select(vec4f(), vec4f(part), digit >= vec4u(4u, 5u, 6u, 7u));
      }
    }
    low = block_sum4(low, lane);
    high = block_sum4(high, lane);
    let sums = array<f32, 9>(low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w, 0.0);
    var digit = 7u;
    while (digit > 0u && !(sums[digit] > 0.0 && found.above + sums[digit] >= wanted)) { digit -= 1u; }
    found.above += sums[digit + 1u];
    found.threshold |= digit << u32(shift);
    mask |= 7u << u32(shift);
  }
  return found;
}

// Moves the last survivor up, so that the fewest survivors hold `wanted`.
fn narrow(kind: u32, wanted: f32, filter_by: Filter, lane: u32) -> vec2u {
  let by_key = search(kind, true, wanted, filter_by, lane);
  if (by_key.threshold <= NEG_INF_KEY) { return vec2u(NEG_INF_KEY, 0u); } // all of them
  var narrowed = filter_by;
  // where the threshold is the old last survivor's key, the old cut by id still holds
  narrowed.least = vec2u(by_key.threshold, select(0u, filter_by.least.y, by_key.threshold == filter_by.least.x));
  let ties = total(TIES, narrowed, lane);
  var part = 1.0;
  if (kind == BY_MASS) { part = relative_weight(by_key.threshold, filter_by.top_key, filter_by.temperature); }
  let wanted_ties = clamp(ceil((wanted - by_key.above) / max(part, 1e-30)), 1.0, ties);
  if (wanted_ties >= ties) { return narrowed.least; }
  return vec2u(by_key.threshold, search(TIES, false, wanted_ties, narrowed, lane).threshold);
}
