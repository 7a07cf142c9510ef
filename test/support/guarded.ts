/** A tensor between guards: a kernel that writes outside it, or past its live rows, is caught. */
import { expect } from "vitest";
import type { DType } from "../../src/common/dtype.ts";
import { product, roundUp } from "../../src/common/math.ts";
import type { Device, Tensor } from "../../src/device/device.ts";

const GUARD_ELEMENTS = 128; // a multiple of the binding alignment at any element size
const SENTINEL = 0x5ca1ab1e;

export interface Guarded {
  readonly tensor: Tensor;
  /** The tensor's bytes, after checking that the guards and all elements from `numLive` on are untouched. */
  read(numLive?: number): Promise<ArrayBuffer>;
}

export function guarded(device: Device, shape: readonly number[], dtype: DType = "f32"): Guarded {
  const numElements = product(shape);
  const after = roundUp(numElements, GUARD_ELEMENTS) + GUARD_ELEMENTS;
  const whole = device.empty([GUARD_ELEMENTS + after], dtype, "guarded");
  const words = new Uint32Array(whole.sizeBytes / 4).fill(SENTINEL);
  device.write(whole, new Uint8Array(words.buffer));
  const bytesPerElement = whole.sizeBytes / whole.numElements;
  const start = GUARD_ELEMENTS * bytesPerElement;
  return {
    tensor: whole.view(shape, GUARD_ELEMENTS),
    async read(numLive = numElements) {
      const bytes = await device.readBytes(whole);
      const isUntouched = (begin: number, end?: number): boolean =>
        new Uint32Array(bytes.slice(begin, end)).every((word) => word === SENTINEL);
      expect(isUntouched(0, start), "elements before the tensor").toBe(true);
      const endOfLive = start + roundUp(numLive * bytesPerElement, 4);
      expect(isUntouched(endOfLive), "elements past the live ones").toBe(true);
      return bytes.slice(start, start + numLive * bytesPerElement);
    },
  };
}
