// sort_key: f32 bits as u32 whose unsigned order is the order of the numbers. Integers, because
// WGSL lets an implementation assume that no f32 is infinite or NaN, and logits hold -inf.

const NEG_INF_KEY: u32 = 0x007fffffu; // the key of -inf
const NO_TOKEN: u32 = 0xffffffffu;

fn sort_key(bits: u32) -> u32 {
  let magnitude = bits & 0x7fffffffu;
  var key = select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
  key = select(key, 0x80000000u, magnitude == 0u); // -0 ties with +0
  return select(key, NEG_INF_KEY, magnitude > 0x7f800000u); // NaN counts as -inf
}

fn key_bits(key: u32) -> u32 {
  return select(~key, key & 0x7fffffffu, (key >> 31u) == 1u);
}

fn key_value(key: u32) -> f32 {
  return bitcast<f32>(key_bits(key));
}

// Order of tokens (key, id): the larger key first, equal ones by lowest id.
fn precedes(a: vec2u, b: vec2u) -> bool {
  return a.x > b.x || (a.x == b.x && a.y < b.y);
}
