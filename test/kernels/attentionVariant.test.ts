import fc from "fast-check";
import { expect, test } from "vitest";
import {
  buildPrefillTiles,
  chooseDecodeVariant,
  choosePrefillVariant,
  chooseSplits,
  type DecodeVariant,
  partialRows,
  TILE_Q,
} from "../../src/kernels/attentionVariant.ts";

const software = { isSoftware: true, subgroupMaxSize: 8 }; // lavapipe
const swiftShader = { isSoftware: true, subgroupMaxSize: 4 };
const hardware = { isSoftware: false, subgroupMaxSize: 32 };
const headDims = Array.from({ length: 32 }, (_, i) => 8 * (i + 1));

test.each([
  // headDim, group, adapter, kind, heads, tiles, lanes
  [32, 2, software, "narrow", 2, 1, 8],
  [32, 2, swiftShader, "narrow", 2, 1, 4],
  [8, 1, { isSoftware: true, subgroupMaxSize: 0 }, "narrow", 1, 1, 4],
  [128, 7, software, "narrow", 4, 2, 8],
  [128, 4, hardware, "wide", 4, 1, 128],
  [128, 7, hardware, "wide", 7, 1, 128],
  [96, 11, hardware, "wide", 6, 2, 120],
  [256, 16, hardware, "wide", 8, 2, 128],
])("decode: headDim %i, group %i, %o", (headDim, group, adapter, kind, heads, tiles, lanes) => {
  expect(chooseDecodeVariant(headDim, group, adapter)).toMatchObject({
    kind,
    headsPerWorkgroup: heads,
    headTiles: tiles,
    lanes,
  });
});

test.each([
  // headDim, tileK, rowGroups, keyRowGroups, lanes
  [8, 16, 16, 2, 32],
  [128, 16, 4, 8, 128],
  [256, 8, 2, 16, 128],
  [200, 8, 2, 8, 100],
])("prefill on hardware: headDim %i", (headDim, tileK, rowGroups, keyRowGroups, lanes) => {
  const want = { kind: "tiled", tileK, rowGroups, keyRowGroups, lanes };
  expect(choosePrefillVariant(headDim, hardware)).toEqual(want);
  expect(choosePrefillVariant(headDim, software)).toEqual({ kind: "rows" });
});

/** Bytes of attention_decode.wgsl's or attention_decode_narrow.wgsl's workgroup arrays. */
function decodeBytes(headDim: number, variant: DecodeVariant): number {
  const { kind, headsPerWorkgroup: heads, lanes, chunk } = variant;
  const vector = heads === 3 ? 16 : 4 * heads; // a vec3 takes 16 bytes in an array
  if (kind === "narrow") return 4 * chunk + vector * (chunk * lanes + chunk + lanes);
  return 4 * (heads * (headDim + chunk + lanes) + chunk + 5 * lanes);
}

test("every decode variant covers its heads and fits the limits that WebGPU guarantees", () => {
  for (const adapter of [software, swiftShader, hardware]) {
    for (const headDim of headDims) {
      for (let group = 1; group <= 32; group++) {
        const variant = chooseDecodeVariant(headDim, group, adapter);
        const { kind, headsPerWorkgroup: heads, headTiles, lanes, chunk } = variant;
        expect(heads * headTiles).toBeGreaterThanOrEqual(group);
        expect(heads * (headTiles - 1)).toBeLessThan(group); // no tile is empty
        expect(lanes).toBeLessThanOrEqual(256);
        expect(decodeBytes(headDim, variant)).toBeLessThanOrEqual(24 * 1024);
        if (kind === "wide") expect(lanes % (headDim / 4)).toBe(0);
        else expect([heads <= 4, chunk % 4]).toEqual([true, 0]);
      }
    }
  }
});

test("every tiled prefill variant keeps what its shader needs", () => {
  for (const headDim of headDims) {
    const variant = choosePrefillVariant(headDim, hardware);
    if (variant.kind !== "tiled") throw new Error("expected tiles");
    const { tileK, rowGroups, keyRowGroups, lanes } = variant;
    expect([TILE_Q % rowGroups, TILE_Q % keyRowGroups]).toEqual([0, 0]);
    expect(lanes).toBe((headDim / 4) * rowGroups);
    expect(lanes).toBeGreaterThanOrEqual(tileK * keyRowGroups);
    expect(lanes).toBeLessThanOrEqual(256);
    const words = (TILE_Q + tileK) * (headDim + 4) + (TILE_Q + 1) * tileK + 3 * TILE_Q;
    expect(4 * words).toBeLessThanOrEqual(32 * 1024);
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
        const adapter = { isSoftware, subgroupMaxSize: 32 };
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
