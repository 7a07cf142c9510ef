// narrow_to: the dtype that a kernel writes, chosen by an override.
// Needs     lib/float_bits.wgsl
override TO: u32; // F32, F16 or BF16
const F32 = 0u;
const F16 = 1u;
const BF16 = 2u;

// The bits in TO of an f32; not for F32, which stays as it is.
fn narrow(bits: u32) -> u32 {
  if (TO == BF16) { return f32_to_bf16(bits); }
  return f32_to_f16(bits);
}
