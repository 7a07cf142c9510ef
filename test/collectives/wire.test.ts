import fc from "fast-check";
import { crc32 as zlibCrc32 } from "node:zlib";
import { describe, expect, test } from "vitest";
import { bf16ToF32, f32ToBf16 } from "../../src/common/dtype.ts";
import { crc32 } from "../../src/collectives/checksum.ts";
import {
  decodeWire,
  encodeWire,
  Q8_BLOCK,
  wireBytes,
  type WireFormat,
} from "../../src/collectives/wire.ts";
import { bitsOf, randomBytes } from "./support/data.ts";

function roundTrip(wire: WireFormat, x: Float32Array): Float32Array {
  const bytes = new Uint8Array(wireBytes(wire, x.length));
  encodeWire(wire, x, bytes);
  const decoded = new Float32Array(x.length).fill(Number.NaN);
  decodeWire(wire, bytes, decoded);
  return decoded;
}

const values = fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { maxLength: 100 });
const smallValues = fc.array(
  fc.float({ noNaN: true, min: Math.fround(-60000), max: Math.fround(60000) }),
  { maxLength: 100 },
);

test("f32 changes nothing", () => {
  fc.assert(
    fc.property(fc.array(fc.float()), (list) => {
      const x = Float32Array.from(list);
      expect(bitsOf(roundTrip("f32", x))).toEqual(bitsOf(x));
    }),
  );
});

test("f16 and bf16 keep their bounds, and a second rounding changes nothing", () => {
  fc.assert(
    fc.property(smallValues, (list) => {
      const x = Float32Array.from(list);
      for (const [wire, relative, absolute] of [
        ["f16", 2 ** -11, 2 ** -25],
        ["bf16", 2 ** -8, 2 ** -134],
      ] as const) {
        const once = roundTrip(wire, x);
        once.forEach((value, i) => {
          const bound = Math.max(relative * Math.abs(x[i] ?? 0), absolute);
          expect(Math.abs(value - (x[i] ?? 0))).toBeLessThanOrEqual(bound);
        });
        expect(bitsOf(roundTrip(wire, once))).toEqual(bitsOf(once));
      }
    }),
  );
});

test("bf16 rounds as the one-value function does, with infinities and NaN", () => {
  const special = [
    0,
    -0,
    Infinity,
    -Infinity,
    Number.NaN,
    1e-45,
    3.4e38,
    1 + 2 ** -8,
    1 + 3 * 2 ** -8,
  ];
  fc.assert(
    fc.property(values, (list) => {
      const x = Float32Array.from([...special, ...list]);
      const want = Float32Array.from(x, (value) => bf16ToF32(f32ToBf16(value)));
      expect([...roundTrip("bf16", x)]).toEqual([...want]);
    }),
  );
});

describe("q8", () => {
  test("each value is within half a step of its block's largest", () => {
    fc.assert(
      fc.property(values, (list) => {
        const x = Float32Array.from(list);
        const rounded = roundTrip("q8", x);
        for (let begin = 0; begin < x.length; begin += Q8_BLOCK) {
          const block = x.subarray(begin, begin + Q8_BLOCK);
          const largest = block.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
          block.forEach((value, i) => {
            const error = Math.abs((rounded[begin + i] ?? Number.NaN) - value);
            expect(error).toBeLessThanOrEqual(1.0001 * (largest / 254) + 2 ** -140);
          });
        }
      }),
    );
  });

  test("blocks do not touch each other, zeros stay, and what is not a number shows", () => {
    const x = new Float32Array(3 * Q8_BLOCK + 5);
    x[1] = 1000;
    x[Q8_BLOCK] = 0.001;
    x[2 * Q8_BLOCK + 3] = Number.NaN;
    x[3 * Q8_BLOCK] = Infinity;
    const rounded = roundTrip("q8", x);
    expect(rounded[1]).toBeCloseTo(1000, 2);
    expect(rounded[0]).toBe(0);
    expect(rounded[Q8_BLOCK]).toBeCloseTo(0.001, 6);
    expect(rounded.slice(2 * Q8_BLOCK).every((value) => Number.isNaN(value))).toBe(true);
    expect(wireBytes("q8", 64)).toBe(72);
    expect(wireBytes("q8", 33)).toBe(41);
  });
});

test("crc32 is zlib's, in one piece or several", () => {
  fc.assert(
    fc.property(fc.nat(300), fc.nat(300), fc.nat(), (length, cut, seed) => {
      const bytes = randomBytes(length, seed);
      expect(crc32(bytes)).toBe(zlibCrc32(bytes));
      expect(crc32(bytes.subarray(cut), crc32(bytes.subarray(0, cut)))).toBe(crc32(bytes));
    }),
  );
});
