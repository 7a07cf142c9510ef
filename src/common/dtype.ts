/** Element types of tensors, on the host and on the device. */

/** bf16 and f16 are stored two to a u32 on the device; i32 and u32 hold ids and tables. */
export type DType = "f32" | "f16" | "bf16" | "u32" | "i32";

/** Dtypes that a weight may have. */
export type WeightDType = "f32" | "f16" | "bf16";

const BYTES: Readonly<Record<DType, number>> = { f32: 4, f16: 2, bf16: 2, u32: 4, i32: 4 };

/** Bytes one element takes. */
export function bytesOf(dtype: DType): number {
  return BYTES[dtype];
}

const word = new Uint32Array(1);
const wordAsFloat = new Float32Array(word.buffer);

/** Widens a bf16 bit pattern; exact. */
export function bf16ToF32(bits: number): number {
  word[0] = bits << 16;
  return wordAsFloat[0] ?? 0;
}

/** Rounds to the nearest bf16, ties to even; returns its 16 bits. NaN stays NaN. */
export function f32ToBf16(value: number): number {
  wordAsFloat[0] = value;
  const bits = word[0] ?? 0;
  if (Number.isNaN(value)) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}
