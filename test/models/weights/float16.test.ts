import fc from "fast-check";
import { expect, test } from "vitest";
import { f16ToF32, f32ToF16 } from "../../../models/weights/float16.ts";

test("every half survives the way to f32 and back", () => {
  for (let bits = 0; bits < 0x10000; bits += 1) {
    const value = f16ToF32(bits);
    const back = f32ToF16(value);
    // expect() is slow: only what is wrong gets there
    if (Number.isNaN(value) ? (back & 0x7e00) !== 0x7e00 : back !== bits) expect(back).toBe(bits);
  }
});

test("rounding is to the nearest half, ties to even", () => {
  const isNearest = fc.property(fc.float({ noNaN: true, min: -65519, max: 65519 }), (value) => {
    const bits = f32ToF16(value);
    const error = Math.abs(f16ToF32(bits) - value);
    for (const other of [bits - 1, bits + 1]) {
      if ((other & 0x7fff) >= 0x7c00 || (other & 0x8000) !== (bits & 0x8000)) continue;
      const otherError = Math.abs(f16ToF32(other) - value);
      expect(error).toBeLessThanOrEqual(otherError);
      if (error === otherError) expect(bits & 1).toBe(0);
    }
  });
  fc.assert(isNearest, { numRuns: 2000, examples: [[2 ** -25], [3 * 2 ** -25], [1 + 2 ** -11]] });
});

test.each([
  [65519, 0x7bff],
  [65520, 0x7c00],
  [-Infinity, 0xfc00],
  [2 ** -24, 1],
  [2 ** -25, 0],
  [2 ** -25 * 1.001, 1],
  [-0, 0x8000],
])("the edge %d", (value, bits) => {
  expect(f32ToF16(value)).toBe(bits);
});
