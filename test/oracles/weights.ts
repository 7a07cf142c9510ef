/** Weights of every dtype for tests: bits to upload, and the exact values that they stand for. */
import { bf16ToF32, f32ToBf16, type WeightDType } from "../../src/common/dtype.ts";

export interface TestWeights {
  readonly bits: Float32Array | Uint16Array;
  readonly values: Float64Array;
}

/** Rounds the values to the dtype. f16 is JavaScript's own, which knows nothing of our code. */
export function encodeWeights(values: ArrayLike<number>, dtype: WeightDType): TestWeights {
  if (dtype === "f32") {
    const bits = Float32Array.from(values);
    return { bits, values: Float64Array.from(bits) };
  }
  if (dtype === "f16") {
    const halves = Float16Array.from(values);
    return { bits: new Uint16Array(halves.buffer), values: Float64Array.from(halves) };
  }
  const bits = Uint16Array.from(values, f32ToBf16);
  return { bits, values: Float64Array.from(bits, bf16ToF32) };
}
