import { expect, test } from "vitest";
import type { AdapterInfo } from "../../src/device/device.ts";
import {
  buildPrefillTiles,
  chooseDecodeVariant,
  choosePrefillVariant,
  chooseWholeVariant,
  type DecodeVariant,
  TILE_Q,
} from "../../src/kernels/attentionVariant.ts";

const limits = limitsOf({
  maxComputeInvocationsPerWorkgroup: 1024,
  maxComputeWorkgroupSizeX: 1024,
  maxComputeWorkgroupStorageSize: 48 * 1024,
});
const software = {
  isSoftware: true,
  hasF16Matrices: false,
  subgroupMinSize: 8,
  subgroupMaxSize: 8,
  limits,
}; // lavapipe
const swiftShader = { ...software, subgroupMinSize: 4, subgroupMaxSize: 4 };
const hardware = { ...software, isSoftware: false, subgroupMinSize: 32, subgroupMaxSize: 32 };
const withoutSubgroups = { ...hardware, subgroupMinSize: 0, subgroupMaxSize: 0 };
const tensorCores = { ...hardware, hasF16Matrices: true };
function limitsOf(some: Partial<AdapterInfo["limits"]>): AdapterInfo["limits"] {
  return some as AdapterInfo["limits"]; // the choice reads no other limit
}
const headDims = Array.from({ length: 32 }, (_, i) => 8 * (i + 1));

test.each([
  // headDim, group, adapter, kind, heads, tiles, lanes
  [32, 2, software, "narrow", 2, 1, 8],
  [32, 2, swiftShader, "narrow", 2, 1, 4],
  [8, 1, { ...software, subgroupMaxSize: 0 }, "narrow", 1, 1, 4],
  [128, 7, software, "narrow", 4, 2, 8],
  [128, 4, hardware, "subgroup", 4, 1, 256],
  [64, 7, hardware, "subgroup", 4, 2, 128],
  [256, 1, hardware, "subgroup", 1, 1, 128],
  [64, 4, { ...hardware, subgroupMinSize: 4 }, "wide", 4, 1, 128], // a key takes 8 lanes
  [16, 4, hardware, "wide", 4, 1, 128], // scores of a turn need 4 lanes
  [128, 7, withoutSubgroups, "wide", 7, 1, 128],
  [96, 11, hardware, "wide", 6, 2, 120],
  [256, 16, withoutSubgroups, "wide", 8, 2, 128],
])("decode: headDim %i, group %i, %o", (headDim, group, adapter, kind, heads, tiles, lanes) => {
  expect(chooseDecodeVariant(headDim, group, adapter)).toMatchObject({
    kind,
    headsPerWorkgroup: heads,
    headTiles: tiles,
    lanes,
  });
});

test("decode of many sequences takes more lanes for heads of 64", () => {
  const lanes = [1, 8, 9, 64].map((max) => chooseDecodeVariant(64, 4, hardware, max).lanes);
  expect(lanes).toEqual([128, 128, 256, 256]);
  expect(chooseDecodeVariant(64, 4, software, 64).lanes).toBe(8);
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

/** Bytes of the workgroup arrays of a variant's shader. */
function decodeBytes(headDim: number, variant: DecodeVariant): number {
  const { headsPerWorkgroup: heads, lanes } = variant;
  const vector = heads === 3 ? 16 : 4 * heads; // a vec3 takes 16 bytes in an array
  switch (variant.kind) {
    case "subgroup":
      return vector * variant.maxSubgroups * (headDim + 2);
    case "narrow":
      return 4 * variant.chunk + vector * (variant.chunk * lanes + variant.chunk + lanes);
    case "wide":
      return 4 * (heads * (headDim + variant.chunk + lanes) + variant.chunk + 5 * lanes);
  }
}

function expectShaderNeeds(headDim: number, variant: DecodeVariant): void {
  const { lanes, headsPerWorkgroup } = variant;
  if (variant.kind === "wide") expect(lanes % (headDim / 4)).toBe(0);
  else expect(headsPerWorkgroup).toBeLessThanOrEqual(4);
  if (variant.kind === "narrow") expect(variant.chunk % 4).toBe(0);
  if (variant.kind === "subgroup") {
    expect([4, 8, 16, 32]).toContain(headDim / 8);
    expect([lanes % (headDim / 8), lanes % variant.maxSubgroups]).toEqual([0, 0]);
  }
}

test("every decode variant covers its heads and fits the limits that WebGPU guarantees", () => {
  for (const adapter of [software, swiftShader, hardware, withoutSubgroups]) {
    for (const headDim of headDims) {
      for (let group = 1; group <= 32; group++) {
        const variant = chooseDecodeVariant(headDim, group, adapter);
        const { headsPerWorkgroup: heads, headTiles, lanes } = variant;
        expect(heads * headTiles).toBeGreaterThanOrEqual(group);
        expect(heads * (headTiles - 1)).toBeLessThan(group); // no tile is empty
        expect(lanes).toBeLessThanOrEqual(256);
        expect(decodeBytes(headDim, variant)).toBeLessThanOrEqual(24 * 1024);
        expectShaderNeeds(headDim, variant);
      }
    }
  }
});

test.each([
  // headDim, group, adapter, lanes
  [64, 4, hardware, 1024],
  [128, 4, hardware, 1024],
  [128, 7, { ...hardware, limits: { ...limits, maxComputeWorkgroupSizeX: 256 } }, 256],
  [128, 4, { ...hardware, subgroupMinSize: 16 }, 512], // twice the subgroups
  [32, 4, { ...hardware, subgroupMinSize: 8 }, 1024],
])("a whole context: headDim %i, group %i, %o", (headDim, group, adapter, lanes) => {
  const variant = chooseWholeVariant(headDim, group, adapter);
  const want = { kind: "subgroup", headsPerWorkgroup: 1, headTiles: group, lanes } as const;
  const maxSubgroups = lanes / adapter.subgroupMinSize;
  expect(variant).toEqual({ ...want, maxSubgroups, isWhole: true });
  if (variant === undefined) return;
  expect(decodeBytes(headDim, variant)).toBeLessThanOrEqual(24 * 1024);
  expectShaderNeeds(headDim, variant);
});

test("no kernel for whole contexts on software, for odd heads or in small workgroups", () => {
  const small = { ...limits, maxComputeInvocationsPerWorkgroup: 128 };
  expect(chooseWholeVariant(64, 4, software)).toBeUndefined();
  expect(chooseWholeVariant(96, 4, hardware)).toBeUndefined();
  expect(chooseWholeVariant(64, 4, withoutSubgroups)).toBeUndefined();
  expect(chooseWholeVariant(64, 4, { ...hardware, limits: small })).toBeUndefined();
});

test("prefill takes matrices where they fit", () => {
  const matrix = { kind: "matrix", subgroups: 8 };
  expect(choosePrefillVariant(64, tensorCores)).toEqual(matrix);
  expect(choosePrefillVariant(128, tensorCores)).toEqual(matrix);
  expect(choosePrefillVariant(96, tensorCores)).toMatchObject({ kind: "tiled" });
  expect(choosePrefillVariant(64, hardware)).toMatchObject({ kind: "tiled" });
  const small = {
    ...tensorCores,
    limits: { ...limits, maxComputeWorkgroupStorageSize: 44 * 1024 },
  };
  expect(choosePrefillVariant(64, small)).toEqual(matrix);
  expect(choosePrefillVariant(128, small)).toMatchObject({ kind: "tiled" });
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

test("prefill tiles cover each chunk once, in order", () => {
  const tiles = buildPrefillTiles([
    { row: 3, firstTokenRow: 2, numTokens: 33 },
    { row: 0, firstTokenRow: 35, numTokens: 16 },
  ]);
  expect([...tiles]).toEqual([3, 2, 16, 0, 3, 18, 16, 0, 3, 34, 1, 0, 0, 35, 16, 0]);
  expect(buildPrefillTiles([]).length).toBe(0);
});
