// sample_full: min-p, top-k, top-p and the draw over a row's whole vocabulary, for rows that
// 64 candidates do not decide
//
// Tokens are ordered by (logit descending, id ascending); top-k and top-p each keep a prefix of that
// order. Its last token is found digit by digit (3 bits a pass over the row) from the sort key: the
// largest digit whose tokens, with all above, hold the wanted count or mass. Ties on the key are
// then cut by id the same way. Sums have a fixed order, so the same bits come out each run. A lane
// takes four tokens at a time, as vectors, to keep four loads in flight.
//
// Shapes    logits: [num_rows, vocab] f32 bits    rows: [max_samples, 12]
//           full_rows: [max_samples], the sample's row of logits or NO_TOKEN for "not this one"
//           sampled_ids: [max_samples] u32    last_token: [max_seqs] u32
// Dispatch  (num_samples, 1, 1): one workgroup a sample
// Accuracy  as pick_filtered.wgsl
// Includes  lib/sort_key.wgsl, lib/random.wgsl, lib/block_best.wgsl,
//           sampling/sampling_row.wgsl
override WG_SIZE: u32 = 256; // lanes a workgroup; power of two

struct Params { vocab: u32, num_rows: u32, lanes: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> logits: array<u32>;
@group(1) @binding(2) var<storage, read> rows: array<u32>;
@group(1) @binding(3) var<storage, read> full_rows: array<u32>;
@group(1) @binding(4) var<storage, read_write> sampled_ids: array<u32>;
@group(1) @binding(5) var<storage, read_write> last_token: array<u32>;

const MAX_INDEX: u32 = 0xffffffu; // ids have 24 bits here
const BY_COUNT: u32 = 0u;
const BY_MASS: u32 = 1u;

// The tokens that survive: those at or above `least` in the order whose weight is at least min_p.
struct Survivors {
  start: u32, // of the row in logits
  top_key: u32,
  temperature: f32,
  min_p: f32,
  least: vec2u, // (key, inverted id)
}

fn lane_ids(base: u32) -> vec4u {
  return base + vec4u(0u, 1u, 2u, 3u) * WG_SIZE;
}

// Past the end 0, which is below every `least`.
fn load_keys(start: u32, ids: vec4u) -> vec4u {
  var keys = vec4u();
  if (ids.x < params.vocab) { keys.x = sort_key(logits[start + ids.x]); }
  if (ids.y < params.vocab) { keys.y = sort_key(logits[start + ids.y]); }
  if (ids.z < params.vocab) { keys.z = sort_key(logits[start + ids.z]); }
  if (ids.w < params.vocab) { keys.w = sort_key(logits[start + ids.w]); }
  return keys;
}

fn key_values(keys: vec4u) -> vec4f {
  return bitcast<vec4f>(select(~keys, keys & vec4u(0x7fffffffu), (keys >> vec4u(31u)) == vec4u(1u)));
}

// relative_weight of four tokens; 0 for those that do not survive.
fn surviving_weights(keys: vec4u, inverted: vec4u, from_these: Survivors) -> vec4f {
  let least = from_these.least;
  let above = (keys > vec4u(least.x)) | ((keys == vec4u(least.x)) & (inverted >= vec4u(least.y)));
  let gaps = key_values(max(keys, vec4u(NEG_INF_KEY + 1u))) - key_value(from_these.top_key);
  var weights = exp(max(gaps / from_these.temperature, vec4f(-200.0)));
  weights = select(weights, vec4f(1.0), keys == vec4u(from_these.top_key));
  let passes = above & (keys > vec4u(NEG_INF_KEY)) & (weights >= vec4f(from_these.min_p));
  return select(vec4f(), weights, passes);
}

// Sums over the survivors with a digit of at least 0, 1, 2, 3 and of at least 4, 5, 6, 7.
struct DigitSums { low: vec4f, high: vec4f }
var<workgroup> digit_partials: array<DigitSums, WG_SIZE / 2u>;

// block_sum for eight numbers, in half the memory.
fn block_digit_sums(value: DigitSums, lane: u32) -> DigitSums {
  let half = params.lanes / 2u;
  if (lane >= half) { digit_partials[lane - half] = value; }
  workgroupBarrier();
  if (lane < half) {
    digit_partials[lane].low += value.low;
    digit_partials[lane].high += value.high;
  }
  workgroupBarrier();
  for (var step = half / 2u; step > 0u; step /= 2u) {
    if (lane < step) {
      digit_partials[lane].low += digit_partials[lane + step].low;
      digit_partials[lane].high += digit_partials[lane + step].high;
    }
    workgroupBarrier();
  }
  let sums = digit_partials[0];
  workgroupBarrier();
  return sums;
}

// The largest threshold such that the survivors at or above it hold `wanted` (a share of all they
// hold, by mass), with what those above it hold and those on it.
struct Found { threshold: u32, above: f32, on: f32, wanted: f32 }

fn sum_from(sums: DigitSums, digit: u32) -> f32 {
  if (digit > 7u) { return 0.0; }
  return select(sums.low[digit & 3u], sums.high[digit & 3u], digit > 3u);
}

// By key, or, among the tokens of the key least.x, by inverted id. Called in uniform control flow.
fn search(kind: u32, by_id: bool, wanted: f32, among: Survivors, lane: u32) -> Found {
  var found = Found(0u, 0.0, 0.0, wanted);
  var mask = 0u;
  // 33 bits by threes for the key (its first digit has two), 24 for the id
  let first_shift = select(30u, 21u, by_id);
  for (var low_bits = first_shift + 3u; low_bits > 0u; low_bits -= 3u) {
    let shift = low_bits - 3u;
    var sums = DigitSums(vec4f(), vec4f());
    for (var base = lane; base < params.vocab; base += 4u * WG_SIZE) {
      let ids = lane_ids(base);
      let inverted = MAX_INDEX - ids;
      let keys = load_keys(among.start, ids);
      let searched = select(keys, inverted, by_id);
      var in_bin = ((searched ^ vec4u(found.threshold)) & vec4u(mask)) == vec4u();
      in_bin &= (keys == vec4u(among.least.x)) | vec4<bool>(!by_id);
      if (!any(in_bin)) { continue; }
      var parts = surviving_weights(keys, inverted, among);
      if (kind == BY_COUNT) { parts = select(vec4f(), vec4f(1.0), parts > vec4f()); }
      parts = select(vec4f(), parts, in_bin);
      let digits = (searched >> vec4u(shift)) & vec4u(7u);
      sums.low += vec4f(
        dot(parts, vec4f(1.0)),
        dot(parts, vec4f(digits >= vec4u(1u))),
        dot(parts, vec4f(digits >= vec4u(2u))),
        dot(parts, vec4f(digits >= vec4u(3u))),
      );
      sums.high += vec4f(
        dot(parts, vec4f(digits >= vec4u(4u))),
        dot(parts, vec4f(digits >= vec4u(5u))),
        dot(parts, vec4f(digits >= vec4u(6u))),
        dot(parts, vec4f(digits >= vec4u(7u))),
      );
    }
    sums = block_digit_sums(sums, lane);
    if (kind == BY_MASS && shift == first_shift) { found.wanted = wanted * sums.low.x; }
    var digit = 7u;
    var from_digit = sum_from(sums, digit);
    while (digit > 0u && !(from_digit > 0.0 && found.above + from_digit >= found.wanted)) {
      digit -= 1u;
      from_digit = sum_from(sums, digit);
    }
    let beyond = sum_from(sums, digit + 1u);
    found.on = from_digit - beyond;
    found.above += beyond;
    found.threshold |= digit << shift;
    mask |= 7u << shift;
  }
  return found;
}

var<workgroup> agreed: vec3u;

// Moves `least` up, so that the fewest survivors hold `wanted`. Called in uniform control flow.
fn narrow(kind: u32, wanted: f32, among: Survivors, lane: u32) -> vec2u {
  var now = among;
  var looks_for = wanted;
  var counts = kind;
  for (var by_id = 0u; by_id < 2u; by_id += 1u) {
    let found = search(counts, by_id == 1u, looks_for, now, lane);
    if (lane == 0u) {
      if (by_id == 1u) {
        agreed = vec3u(now.least.x, found.threshold, 0u);
      } else if (found.threshold <= now.least.x) {
        // all keys are kept (all survivors hold less than wanted, if only by rounding), or just
        // those at the cut of an earlier filter, whose ids then still bound them
        agreed = vec3u(now.least, 0u);
      } else {
        agreed = vec3u(found.threshold, 0u, 0u);
      }
      // tokens on the threshold: a count, also where found.on is a mass
      let weight = relative_weight(found.threshold, now.top_key, now.temperature);
      let part = select(1.0, max(weight, 1e-30), counts == BY_MASS);
      let wanted_ties = max(ceil((found.wanted - found.above) / part), 1.0);
      if (by_id == 0u && found.threshold > NEG_INF_KEY && wanted_ties < round(found.on / part)) {
        agreed.z = u32(wanted_ties);
      }
    }
    let agreement = workgroupUniformLoad(&agreed);
    now.least = agreement.xy;
    if (agreement.z == 0u) { break; } // no tie to cut
    looks_for = f32(agreement.z);
    counts = BY_COUNT;
  }
  return now.least;
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let sample = group.x;
  let full_row = full_rows[sample];
  if (full_row >= params.num_rows) { return; } // NO_TOKEN too
  let row = sample * ROW_WORDS;
  let start = full_row * params.vocab;
  let temperature = bitcast<f32>(rows[row + ROW_TEMPERATURE]);
  let min_p = bitcast<f32>(rows[row + ROW_MIN_P]);

  var top = vec4u();
  for (var base = lane; base < params.vocab; base += 4u * WG_SIZE) {
    top = max(top, load_keys(start, lane_ids(base)));
  }
  top.x = max(max(top.x, top.y), max(top.z, top.w));
  let top_key = block_best(vec2u(top.x, 0u), lane).x;
  var survivors = Survivors(start, top_key, temperature, min_p, vec2u(NEG_INF_KEY, 0u));
  for (var kind = BY_COUNT; kind <= BY_MASS; kind += 1u) {
    var wanted = bitcast<f32>(rows[row + ROW_TOP_P]);
    if (kind == BY_COUNT) { wanted = f32(rows[row + ROW_TOP_K]); }
    let is_off = select(wanted >= 1.0, wanted == 0.0, kind == BY_COUNT);
    if (is_off) { continue; }
    survivors.least = narrow(kind, wanted, survivors, lane);
  }

  var best = vec2u(NEG_INF_KEY, select(NO_TOKEN, 0u, top_key == NEG_INF_KEY)); // no logit at all: id 0
  for (var id = lane; id < params.vocab; id += WG_SIZE) {
    let key = sort_key(logits[start + id]);
    let is_below = precedes(vec2u(survivors.least.x, MAX_INDEX - survivors.least.y), vec2u(key, id));
    let weight = relative_weight(key, top_key, temperature);
    if (is_below || weight <= 0.0 || weight < min_p) { continue; }
    let noise = token_noise(rows[row + ROW_SEED], rows[row + ROW_POSITION], id);
    let scored = vec2u(draw_key(key, temperature, noise), id);
    if (precedes(scored, best)) { best = scored; }
  }
  best = block_best(best, lane);
  if (lane == 0u) {
    sampled_ids[sample] = best.y;
    last_token[rows[row + ROW_SLOT]] = best.y;
  }
}
