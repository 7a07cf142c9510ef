import fc from "fast-check";
import { expect, test } from "vitest";
import { addPlain } from "../../src/collectives/floats.ts";
import { createSimdAdd } from "../../src/collectives/simdSum.ts";
import { bitsOf, randomFloats } from "./support/data.ts";

const SPECIAL = [0, -0, 1e-45, -1e-45, 3.4e38, Infinity, 1, 2 ** -24, 1 + 2 ** -23];

test("SIMD adds to the same bits as the plain loop, and touches nothing else", () => {
  const simdAdd = createSimdAdd();
  expect(simdAdd).toBeDefined();
  const lengths = fc.oneof(fc.nat(200), fc.constantFrom(65_535, 65_536, 65_537, 140_000));
  fc.assert(
    fc.property(lengths, fc.nat(20), fc.nat(), fc.boolean(), (length, begin, seed, isShared) => {
      const part = isShared
        ? new Float32Array(new SharedArrayBuffer(4 * length))
        : new Float32Array(length);
      part.set(randomFloats(length, seed));
      const base = randomFloats(length + begin + 9, seed + 1);
      SPECIAL.slice(0, length).forEach((value, i) => {
        part[i] = value;
        base[begin + i] = SPECIAL[(i + seed) % SPECIAL.length] ?? 0;
      });
      const [want, got] = [base.slice(), base.slice()];
      addPlain(want, want, begin, part);
      simdAdd?.(got, got, begin, part);
      expect(Buffer.from(bitsOf(got).buffer).equals(Buffer.from(bitsOf(want).buffer))).toBe(true);
      const apart = base.slice().fill(7);
      simdAdd?.(apart, base, begin, part);
      expect(apart.slice(begin, begin + length)).toEqual(want.slice(begin, begin + length));
      expect([...apart.slice(0, begin), ...apart.slice(begin + length)].every((x) => x === 7)).toBe(
        true,
      );
    }),
    { numRuns: 60 },
  );
});
