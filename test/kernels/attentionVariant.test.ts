import fc from "fast-check";
import { expect, test } from "vitest";
import {
  buildPrefillTiles,
  chooseDecodeVariant,
  choosePrefillVariant,
  chooseSplits,
  partialRows,
  TILE_Q,
} from "../../src/kernels/attentionVariant.ts";

const software = { isSoftware: true };
const hardware = { isSoftware: false };
const headDims = Array.from({ length: 32 }, (_, i) => 8 * (i + 1));

test.each([
  // headDim, group, adapter, heads, tiles, parts, lanes
  [32, 2, software, 2, 1, 1, 8],
  [8, 1, software, 1, 1, 4, 8],
  [128, 4, software, 4, 1, 1, 32],
  [128, 4, hardware, 4, 1, 4, 128],
  [128, 7, hardware, 7, 1, 4, 128],
  [96, 11, hardware, 6, 2, 5, 120],
  [256, 16, hardware, 8, 2, 2, 128],
])("decode: headDim %i, group %i, %o", (headDim, group, adapter, heads, tiles, parts, lanes) => {
  expect(chooseDecodeVariant(headDim, group, adapter)).toMatchObject({
    headsPerWorkgroup: heads,
    headTiles: tiles,
    parts,
    lanes,
  });
});

test.each([
  // headDim, adapter, tileK, rowGroups, keyRowGroups, lanes
  [32, software, 8, 1, 1, 8],
  [8, software, 8, 4, 1, 8],
  [128, software, 8, 1, 4, 32],
  [128, hardware, 16, 4, 8, 128],
  [256, hardware, 8, 2, 16, 128],
  [200, hardware, 8, 2, 8, 100],
])("prefill: headDim %i, %o", (headDim, adapter, tileK, rowGroups, keyRowGroups, lanes) => {
  const want = { tileK, rowGroups, keyRowGroups, lanes, isStaged: !adapter.isSoftware };
  expect(choosePrefillVariant(headDim, adapter)).toEqual(want);
});

test("every variant fits the limits that WebGPU guarantees and what the shaders need", () => {
  for (const adapter of [software, hardware]) {
    for (const headDim of headDims) {
      const quads = headDim / 4;
      for (let group = 1; group <= 32; group++) {
        const decode = chooseDecodeVariant(headDim, group, adapter);
        const heads = decode.headsPerWorkgroup;
        expect(heads * decode.headTiles).toBeGreaterThanOrEqual(group);
        expect(heads * (decode.headTiles - 1)).toBeLessThan(group); // no tile is empty
        expect(decode.lanes).toBeLessThanOrEqual(256);
        const words = heads * (headDim + decode.chunk + decode.lanes) + decode.chunk;
        expect(4 * (words + 5 * decode.lanes)).toBeLessThanOrEqual(32768);
      }
      const prefill = choosePrefillVariant(headDim, adapter);
      expect(TILE_Q % prefill.rowGroups).toBe(0);
      expect(TILE_Q % prefill.keyRowGroups).toBe(0);
      expect(prefill.lanes).toBe(quads * prefill.rowGroups);
      expect(prefill.lanes).toBeGreaterThanOrEqual(prefill.tileK * prefill.keyRowGroups);
      expect(prefill.lanes).toBeLessThanOrEqual(256);
      const staged = prefill.isStaged ? prefill.tileK * (headDim + 4) : 0;
      const words = TILE_Q * (headDim + 4) + staged + (TILE_Q + 1) * prefill.tileK + 3 * TILE_Q;
      expect(4 * words).toBeLessThanOrEqual(32768);
    }
  }
});

test.each([
  // context, maxSplits, tokens, adapter -> splitSize, numSplits
  [1, 32, 1, software, 16, 1],
  [500, 32, 1, software, 512, 1],
  [2000, 32, 1, software, 1008, 2],
  [100_000, 32, 1, software, 25_008, 4],
  [100_000, 32, 8, software, 100_000, 1],
  [200, 32, 1, hardware, 208, 1],
  [1000, 32, 1, hardware, 256, 4],
  [131_072, 32, 1, hardware, 4096, 32],
  [8192, 64, 64, hardware, 512, 16],
  [8192, 1, 1, hardware, 8192, 1],
])("splits: context %i, at most %i, %i tokens, %o", (context, most, tokens, adapter, size, num) => {
  expect(chooseSplits(context, most, 16, tokens, adapter)).toEqual({
    splitSize: size,
    numSplits: num,
  });
});

test("splits are whole blocks, cover the context and fit the scratch", () => {
  const ints = (min: number, max: number): fc.Arbitrary<number> => fc.integer({ min, max });
  fc.assert(
    fc.property(
      fc.tuple(ints(1, 200_000), ints(1, 128), ints(1, 64), ints(0, 2000), fc.boolean()),
      ([context, maxSplits, blockSize, tokens, isSoftware]) => {
        const adapter = { isSoftware };
        const splits = chooseSplits(context, maxSplits, blockSize, tokens, adapter);
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

test("prefill tiles cover each chunk once, in order", () => {
  const tiles = buildPrefillTiles([
    { row: 3, firstTokenRow: 2, numTokens: 33 },
    { row: 0, firstTokenRow: 35, numTokens: 16 },
  ]);
  expect([...tiles]).toEqual([3, 2, 16, 0, 3, 18, 16, 0, 3, 34, 1, 0, 0, 35, 16, 0]);
  expect(buildPrefillTiles([]).length).toBe(0);
});
