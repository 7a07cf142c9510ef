/** IEEE half precision in integer arithmetic, so that pages without Float16Array agree. */

const word = new Uint32Array(1);
const wordAsFloat = new Float32Array(word.buffer);

/** Widens a half's bit pattern; exact. */
export function f16ToF32(bits: number): number {
  const sign = (bits & 0x8000) === 0 ? 1 : -1;
  const exponent = (bits >>> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Rounds to the nearest half, ties to even, subnormals kept; returns its 16 bits. */
export function f32ToF16(value: number): number {
  wordAsFloat[0] = value;
  const bits = word[0] ?? 0;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00; // NaN
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // rounds to 65,536 or more
  const exponent = magnitude >>> 23;
  if (exponent < 102) return sign; // below half of the least subnormal, 2^-25
  // subnormal halves have fixed point 2^-24: shift the 24-bit significand down to it
  const isSubnormal = exponent < 113;
  const shift = isSubnormal ? 126 - exponent : 13;
  const significand = isSubnormal ? (magnitude & 0x7fffff) | 0x800000 : magnitude - (112 << 23); // rebias 127 to 15, exponent and fraction together
  const kept = significand >>> shift;
  const rest = significand & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return sign | (kept + (rest > half || (rest === half && (kept & 1) === 1) ? 1 : 0));
}
