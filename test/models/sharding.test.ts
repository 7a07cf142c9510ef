import fc from "fast-check";
import { expect, test } from "vitest";
import { ShardingError } from "../../src/common/errors.ts";
import {
  checkLayout,
  ffnShard,
  headShard,
  layerRange,
  maxTpSize,
  type ShardedSizes,
  splitByWeight,
  splitEven,
  vocabShard,
} from "../../models/sharding.ts";
import { type Range, sizeOf } from "../../models/weights/weightSource.ts";

/** Any model: 1 to 12 KV heads of 1 to 8 query heads each, sizes that divide by nothing. */
const sizes: fc.Arbitrary<ShardedSizes> = fc
  .record({
    totalNumKvHeads: fc.integer({ min: 1, max: 12 }),
    groupSize: fc.integer({ min: 1, max: 8 }),
    intermediateSize: fc.integer({ min: 1, max: 1000 }),
    vocabSize: fc.integer({ min: 8, max: 1000 }),
    numLayers: fc.integer({ min: 1, max: 20 }),
  })
  .map(({ groupSize, ...rest }) => ({ ...rest, totalNumHeads: rest.totalNumKvHeads * groupSize }));

function ranks<T>(tpSize: number, shard: (tpRank: number) => T): T[] {
  return Array.from({ length: tpSize }, (_, tpRank) => shard(tpRank));
}

/** Parts in rank order that begin where the one before ends, from 0 to total. */
function expectWhole(parts: readonly Range[], total: number): void {
  const ends = [0, ...parts.map(({ end }) => end)];
  expect(parts.map(({ begin }) => begin)).toEqual(ends.slice(0, -1));
  expect(ends.at(-1)).toBe(total);
}

const odd = { totalNumHeads: 9, totalNumKvHeads: 3, intermediateSize: 200, vocabSize: 331 };

test("splitEven: larger parts first, in whole units, the last unit partial", () => {
  expect(ranks(3, (r) => splitEven(331, 3, r))).toEqual([
    { begin: 0, end: 111 },
    { begin: 111, end: 221 },
    { begin: 221, end: 331 },
  ]);
  expect(ranks(4, (r) => splitEven(172, 4, r, 8))).toEqual([
    { begin: 0, end: 48 },
    { begin: 48, end: 96 },
    { begin: 96, end: 136 },
    { begin: 136, end: 172 },
  ]);
});

test("splitEven: parts are the whole and differ by one unit at most", () => {
  const parts = fc.integer({ min: 1, max: 9 });
  fc.assert(
    fc.property(fc.nat(2000), parts, fc.integer({ min: 1, max: 16 }), (total, parts, unit) => {
      const all = ranks(parts, (r) => splitEven(total, parts, r, unit));
      expectWhole(all, total);
      const counts = all.map((range) => Math.ceil(sizeOf(range) / unit));
      expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
      expect([...counts].sort((a, b) => b - a)).toEqual(counts);
    }),
  );
});

test("splitByWeight: the whole, nobody left empty, even weights split evenly", () => {
  const weights = fc.array(fc.double({ min: 0.01, max: 100, noNaN: true }), {
    minLength: 1,
    maxLength: 8,
  });
  fc.assert(
    fc.property(weights, fc.integer({ min: 8, max: 500 }), (split, total) => {
      const all = ranks(split.length, (r) => splitByWeight(total, split, r));
      expectWhole(all, total);
      expect(Math.min(...all.map(sizeOf))).toBeGreaterThan(0);
      const even = split.map(() => 0.3);
      expect(ranks(split.length, (r) => splitByWeight(total, even, r))).toEqual(
        ranks(split.length, (r) => splitEven(total, split.length, r)),
      );
    }),
  );
  expect(ranks(2, (r) => splitByWeight(80, [3, 1], r, 8))).toEqual([
    { begin: 0, end: 64 },
    { begin: 64, end: 80 },
  ]);
});

test("headShard: three KV heads of three query heads over 1 to 9 ranks", () => {
  const heads = (tpSize: number): string[] =>
    ranks(tpSize, (r) => headShard(odd, tpSize, r)).map(
      (s) => `${s.heads.begin}-${s.heads.end}/${s.kvHeads.begin}-${s.kvHeads.end}`,
    );
  expect(heads(1)).toEqual(["0-9/0-3"]);
  expect(heads(2)).toEqual(["0-6/0-2", "6-9/2-3"]);
  expect(heads(4)).toEqual(["0-2/0-1", "2-3/0-1", "3-6/1-2", "6-9/2-3"]);
  expect(heads(8)).toEqual([
    "0-1/0-1",
    "1-2/0-1",
    "2-3/0-1",
    "3-4/1-2",
    "4-5/1-2",
    "5-6/1-2",
    "6-8/2-3",
    "8-9/2-3",
  ]);
});

test("headShard: query heads are the whole, and sit with the KV head they attend to", () => {
  fc.assert(
    fc.property(sizes, fc.integer({ min: 1, max: 8 }), fc.boolean(), (config, tpSize, isUneven) => {
      fc.pre(tpSize <= config.totalNumHeads);
      const tensorSplit = isUneven ? ranks(tpSize, (r) => r + 1) : undefined;
      const shards = ranks(tpSize, (r) => headShard(config, tpSize, r, tensorSplit));
      expectWhole(
        shards.map(({ heads }) => heads),
        config.totalNumHeads,
      );
      const group = config.totalNumHeads / config.totalNumKvHeads;
      for (const { heads, kvHeads } of shards) {
        expect(sizeOf(heads)).toBeGreaterThan(0);
        expect(sizeOf(heads) % sizeOf(kvHeads)).toBe(0);
        expect(Math.floor(heads.begin / group)).toBe(kvHeads.begin);
        expect(Math.floor((heads.end - 1) / group)).toBe(kvHeads.end - 1);
        if (sizeOf(kvHeads) > 1) expect(sizeOf(heads)).toBe(sizeOf(kvHeads) * group);
      }
      const seen = new Set(
        shards.flatMap(({ kvHeads: { begin, end } }) =>
          Array.from({ length: end - begin }, (_, i) => begin + i),
        ),
      );
      expect(seen.size).toBe(config.totalNumKvHeads);
    }),
  );
});

test("ffnShard, vocabShard and layerRange are the whole; FFN parts are padded to units", () => {
  fc.assert(
    fc.property(sizes, fc.integer({ min: 1, max: 8 }), (config, tpSize) => {
      fc.pre(tpSize <= maxTpSize(config));
      const ffn = ranks(tpSize, (r) => ffnShard(config, tpSize, r));
      expectWhole(ffn, config.intermediateSize);
      for (const shard of ffn) {
        expect(shard.begin % 8).toBe(0);
        expect(shard.paddedSize).toBe(Math.ceil(sizeOf(shard) / 8) * 8);
        expect(shard.paddedSize).toBeGreaterThan(0);
      }
      expectWhole(
        ranks(tpSize, (r) => vocabShard(config, tpSize, r)),
        config.vocabSize,
      );
      const ppSize = Math.min(tpSize, config.numLayers);
      expectWhole(
        ranks(ppSize, (r) => layerRange(config.numLayers, ppSize, r)),
        config.numLayers,
      );
    }),
  );
});

test("checkLayout accepts exactly the layouts in which every rank has something", () => {
  fc.assert(
    fc.property(sizes, fc.integer({ min: 1, max: 16 }), (config, tpSize) => {
      const fits = tpSize <= maxTpSize(config);
      const check = (): void => {
        checkLayout(config, { tpSize, ppSize: 1 });
      };
      if (!fits) {
        expect(check).toThrow(ShardingError);
        return;
      }
      check();
      const parts = ranks(tpSize, (r) => [
        headShard(config, tpSize, r).heads,
        ffnShard(config, tpSize, r),
        vocabShard(config, tpSize, r),
      ]).flat();
      expect(Math.min(...parts.map(sizeOf))).toBeGreaterThan(0);
    }),
  );
});

test.each([
  [
    { tpSize: 10, ppSize: 1 },
    "tpSize: expected at most 9, as the model has 9 query heads, got 10; use a tpSize of 1 to 9",
  ],
  [
    { tpSize: 1, ppSize: 6 },
    "ppSize: expected at most 5, as the model has 5 layers, got 6; use a ppSize of 1 to 5",
  ],
  [{ tpSize: 0, ppSize: 1 }, "tpSize: expected a whole number of at least 1, got 0"],
  [{ tpSize: 2, ppSize: 1.5 }, "ppSize: expected a whole number of at least 1, got 1.5"],
  [{ tpSize: 2, ppSize: 1, tensorSplit: [1] }, "tensorSplit: expected 2 numbers above 0"],
  [{ tpSize: 2, ppSize: 1, tensorSplit: [1, 0] }, "tensorSplit: expected 2 numbers above 0"],
])("checkLayout refuses %j", (layout, message) => {
  const check = (): void => {
    checkLayout({ ...odd, numLayers: 5 }, layout);
  };
  expect(check).toThrow(ShardingError);
  expect(check).toThrow(message);
});

test("checkLayout's remedy is the size that passes every limit", () => {
  const narrow = { ...odd, numLayers: 5, intermediateSize: 20 };
  expect(() => {
    checkLayout(narrow, { tpSize: 12, ppSize: 1 });
  }).toThrow("9 query heads, got 12; use a tpSize of 1 to 3");
});
