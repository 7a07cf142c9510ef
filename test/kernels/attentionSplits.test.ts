import fc from "fast-check";
import { expect, test } from "vitest";
import type { AdapterInfo } from "../../src/device/device.ts";
import {
  chooseSplits,
  partialRows,
  type Splits,
  SPLITS_CANDIDATES,
  SPLITS_ENTRY,
  takesWhole,
  wholeContext,
} from "../../src/kernels/attentionSplits.ts";
import { type AttentionAdapter, attentionEntry } from "../../src/kernels/attentionVariant.ts";

const limits = {
  maxComputeInvocationsPerWorkgroup: 1024,
  maxComputeWorkgroupSizeX: 1024,
} as AdapterInfo["limits"]; // the choice reads no other limit
const hardware: AttentionAdapter = {
  isSoftware: false,
  hasF16Matrices: false,
  subgroupMinSize: 32,
  subgroupMaxSize: 32,
  limits,
};
const software = { ...hardware, isSoftware: true, subgroupMinSize: 8, subgroupMaxSize: 8 };

function splitsOf(
  maxContextLength: number,
  maxSplits: number,
  blockSize: number,
  numDecodeTokens: number,
  adapter: AttentionAdapter,
  numKvHeads: number,
): Splits {
  const heads = { numHeads: 4 * numKvHeads, numKvHeads, headDim: 128 };
  const request = { maxContextLength, numDecodeTokens, maxSplits, blockSize, heads };
  return chooseSplits(request, adapter);
}

test.each([
  // context, maxSplits, tokens, numKvHeads, adapter -> splitSize, numSplits
  [1, 32, 1, 8, software, 16, 1],
  [500, 32, 1, 8, software, 512, 1],
  [2000, 32, 1, 8, software, 1008, 2],
  [100_000, 32, 1, 8, software, 25_008, 4],
  [100_000, 32, 8, 8, software, 100_000, 1],
  [50, 32, 1, 8, hardware, 64, 1],
  [576, 32, 1, 8, hardware, 64, 9],
  [2048, 32, 1, 8, hardware, 64, 32],
  [131_072, 32, 1, 8, hardware, 4096, 32],
  [8192, 32, 1, 32, hardware, 1024, 8], // 256 workgroups
  [576, 32, 32, 8, hardware, 576, 1],
  [8192, 64, 64, 1, hardware, 2048, 4],
  [8192, 1, 1, 8, hardware, 8192, 1],
])(
  "splits: context %i, at most %i, %i tokens, %i KV heads, %o",
  (context, most, tokens, kvHeads, adapter, splitSize, numSplits) => {
    const splits = splitsOf(context, most, 16, tokens, adapter, kvHeads);
    expect(splits).toEqual({ splitSize, numSplits });
  },
);

test("splits are whole blocks, cover the context and fit the scratch", () => {
  const ints = (min: number, max: number): fc.Arbitrary<number> => fc.integer({ min, max });
  fc.assert(
    fc.property(
      fc.tuple(ints(1, 200_000), ints(1, 128), ints(1, 64), ints(0, 2000), fc.boolean()),
      ints(1, 32),
      ([context, maxSplits, blockSize, tokens, isSoftware], kvHeads) => {
        const adapter = isSoftware ? software : hardware;
        const splits = splitsOf(context, maxSplits, blockSize, tokens, adapter, kvHeads);
        const { splitSize, numSplits } = splits;
        expect(splitSize % blockSize).toBe(0);
        expect(splitSize * numSplits).toBeGreaterThanOrEqual(context);
        expect(splitSize * (numSplits - 1)).toBeLessThan(context); // the last one is not empty
        expect(numSplits).toBeLessThanOrEqual(maxSplits);
        const rows = partialRows(Math.max(tokens, 1), maxSplits);
        if (numSplits > 1) expect(tokens * numSplits).toBeLessThanOrEqual(rows);
      },
    ),
  );
});

test("with any measured numbers splits are whole blocks, cover the context and fit the scratch", () => {
  const { workgroups, minSplitSize } = SPLITS_CANDIDATES;
  const draws = fc.record({
    context: fc.integer({ min: 1, max: 200_000 }),
    maxSplits: fc.integer({ min: 1, max: 64 }),
    tokens: fc.integer({ min: 1, max: 500 }),
    kvHeads: fc.integer({ min: 1, max: 32 }),
    workgroups: fc.constantFrom(...workgroups),
    minSplitSize: fc.constantFrom(...minSplitSize),
  });
  const holds = fc.property(draws, ({ context, maxSplits, tokens, kvHeads, ...numbers }) => {
    const adapter = { ...hardware, tuned: { [SPLITS_ENTRY]: numbers } };
    const splits = splitsOf(context, maxSplits, 16, tokens, adapter, kvHeads);
    const { splitSize, numSplits } = splits;
    expect(splitSize % 16).toBe(0);
    expect(splitSize * numSplits).toBeGreaterThanOrEqual(context);
    expect(splitSize * (numSplits - 1)).toBeLessThan(context);
    expect(numSplits).toBeLessThanOrEqual(maxSplits);
    if (numSplits > 1)
      expect(tokens * numSplits).toBeLessThanOrEqual(partialRows(tokens, maxSplits));
  });
  fc.assert(holds);
  const tuned = { [SPLITS_ENTRY]: { minSplitSize: 256 } };
  expect(splitsOf(512, 32, 16, 1, { ...hardware, tuned }, 8).numSplits).toBe(2);
  expect(splitsOf(512, 32, 16, 1, hardware, 8).numSplits).toBe(8);
});

test("a context is not split up to where that was measured to be faster, for few query heads", () => {
  const tuned = { [attentionEntry(128, 4)]: { wholeContext: 1024 } };
  const measured = { ...hardware, tuned };
  const numSplits = (
    context: number,
    tokens: number,
    adapter: AttentionAdapter = measured,
  ): number => splitsOf(context, 32, 16, tokens, adapter, 8).numSplits;
  expect([numSplits(1024, 1), numSplits(1024, 4)]).toEqual([1, 1]);
  expect([numSplits(1025, 1), numSplits(1024, 5)]).toEqual([17, 7]);
  expect([4, 5].map((tokens) => takesWhole(tokens, 32))).toEqual([true, false]);
  expect(numSplits(1024, 1, hardware)).toBe(16); // nothing was measured
});

test("heads of 64 have a default for it, which a measurement replaces", () => {
  const numSplits = (context: number, numbers: Record<string, number>): number => {
    const tuned = { [attentionEntry(64, 4)]: numbers };
    const heads = { numHeads: 32, numKvHeads: 8, headDim: 64 };
    const request = {
      maxContextLength: context,
      numDecodeTokens: 1,
      maxSplits: 32,
      blockSize: 16,
      heads,
    };
    return chooseSplits(request, { ...hardware, tuned }).numSplits;
  };
  expect([numSplits(640, {}), numSplits(641, {})]).toEqual([1, 11]);
  expect([numSplits(640, { wholeContext: 0 }), numSplits(641, { wholeContext: 1024 })]).toEqual([
    10, 1,
  ]);
});

test("the length of whole contexts is one of the numbers tried, where there is a kernel for them", () => {
  const lengthOf = (adapter: AttentionAdapter, value: number, headDim = 64): number =>
    wholeContext(
      { numHeads: 8, numKvHeads: 2, headDim },
      { ...adapter, tuned: { [attentionEntry(headDim, 4)]: { wholeContext: value } } },
    );
  expect(lengthOf(hardware, 2048)).toBe(2048);
  expect([lengthOf(hardware, 1000), lengthOf(hardware, 1000, 128)]).toEqual([640, 0]); // the defaults
  expect(lengthOf(software, 2048)).toBe(0);
  expect(lengthOf(hardware, 2048, 96)).toBe(0); // no subgroup kernel for such heads
});
