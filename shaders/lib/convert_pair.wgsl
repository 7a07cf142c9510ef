// convert_pair: two neighbouring elements from one dtype to another.
// Needs     lib/float_bits.wgsl, lib/narrow_to.wgsl; src, dst: arrays of u32
override FROM: u32; // F32, F16 or BF16, as TO

fn widen(half: u32) -> u32 {
  if (FROM == BF16) { return half << 16u; }
  return f16_to_f32(half);
}

// The f32 bits of a pair of elements.
fn load_pair(pair: u32) -> vec2u {
  if (FROM == F32) { return vec2u(src[2u * pair], src[2u * pair + 1u]); }
  let halves = src[pair];
  return vec2u(widen(halves & 0xffffu), widen(halves >> 16u));
}

fn store_pair(pair: u32, bits: vec2u) {
  if (TO == F32) {
    dst[2u * pair] = bits.x;
    dst[2u * pair + 1u] = bits.y;
  } else {
    dst[pair] = narrow(bits.x) | (narrow(bits.y) << 16u);
  }
}
