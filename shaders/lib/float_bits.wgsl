// float_bits: f16 and bf16 to and from the bits of an f32, in integer arithmetic. WGSL leaves the
// rounding of pack2x16float open and lets f32 arithmetic flush subnormals and change NaNs.

// Nearest, ties to even; NaN stays NaN.
fn f32_to_bf16(bits: u32) -> u32 {
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return (bits >> 16u) | 0x40u; }
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

// Nearest, ties to even; subnormals kept; NaN stays NaN.
fn f32_to_f16(bits: u32) -> u32 {
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return sign | 0x7e00u; }
  if (magnitude >= 0x477ff000u) { return sign | 0x7c00u; } // rounds to 65,536 or more
  let exponent = magnitude >> 23u;
  if (exponent < 102u) { return sign; } // below half of the least subnormal, 2^-25
  var shift = 13u;
  var significand = magnitude - (112u << 23u); // rebias 127 to 15, exponent and fraction together
  if (exponent < 113u) {
    shift = 126u - exponent; // subnormal halves have fixed point 2^-24
    significand = (magnitude & 0x7fffffu) | 0x800000u;
  }
  let kept = significand >> shift;
  let rest = significand & ((1u << shift) - 1u);
  let half = 1u << (shift - 1u);
  let rounds_up = rest > half || (rest == half && (kept & 1u) == 1u);
  return sign | (kept + select(0u, 1u, rounds_up));
}

// Exact.
fn f16_to_f32(bits: u32) -> u32 {
  let sign = (bits & 0x8000u) << 16u;
  let exponent = (bits >> 10u) & 0x1fu;
  let fraction = bits & 0x3ffu;
  if (exponent == 0x1fu) { return sign | 0x7f800000u | (fraction << 13u); }
  if (exponent != 0u) { return sign | ((exponent + 112u) << 23u) | (fraction << 13u); }
  if (fraction == 0u) { return sign; }
  let top = firstLeadingBit(fraction); // the value is fraction * 2^-24
  return sign | ((top + 103u) << 23u) | ((fraction << (23u - top)) & 0x7fffffu);
}
