import fc from "fast-check";
import { expect } from "vitest";
import { liveRows } from "../../src/device/liveCounts.ts";
import type { Device } from "../../src/device/device.ts";
import { attention, type AttentionArgs, buildPrefillTiles } from "../../src/kernels/attention.ts";
import { attentionOracle } from "../oracles/attention.ts";
import { pagedCase, type PagedShape, type StepSequence } from "./pagedCase.ts";
import { expectClose, test } from "../support/gpu.ts";

interface Case extends PagedShape {
  readonly sequences: readonly StepSequence[];
  readonly slidingWindow: number;
  readonly splitBlocks: number;
  readonly seed: number;
}

const GUARD = 12345;
const SPARE_ROWS = 3; // capacity past the live rows
const tolerance = { rtol: 2e-5, atol: 4e-6 };

function device32(device: Device, values: readonly number[], shape: number[]): AttentionArgs["q"] {
  const padded = new Uint32Array(shape.reduce((a, b) => a * b, 1));
  padded.set(values);
  return device.upload(padded, shape, "u32");
}

/** Runs one step; returns the live rows of `out` after checking that nothing else changed. */
async function run(device: Device, c: Case): Promise<{ got: Float32Array; want: Float64Array }> {
  const { numHeads, numKvHeads, headDim, blockSize, kvDType, slidingWindow } = c;
  const step = pagedCase(c, c.sequences, c.seed);
  const numTokens = step.positions.length;
  const capacity = numTokens + SPARE_ROWS;
  const width = numHeads * headDim;
  const q = new Float32Array(capacity * width).fill(Number.NaN);
  q.set(step.q);
  const maxBlocks = Math.max(...step.blocks.map((ids) => ids.length)) + 1;
  const tables = step.blocks.flatMap((ids) => [
    ...ids,
    ...Array<number>(maxBlocks - ids.length).fill(0),
  ]);
  const cacheShape = [step.numBlocks, blockSize, numKvHeads, headDim];
  const tiles = buildPrefillTiles(step.chunks);
  const splitSize = c.splitBlocks * blockSize;
  const maxContextLength = Math.max(...step.positions) + 1;
  const numSplits = Math.ceil(maxContextLength / splitSize);
  const out = device.upload(new Float32Array(capacity * width + 64).fill(GUARD), [
    capacity * width + 64,
  ]);
  const args: AttentionArgs = {
    q: device.upload(q, [capacity, width]),
    keyCache: device.upload(step.keyBits, cacheShape, kvDType),
    valueCache: device.upload(step.valueBits, cacheShape, kvDType),
    kvDType,
    positions: device32(device, step.positions, [capacity]),
    sequenceIndex: device32(device, step.sequenceIndex, [capacity]),
    blockTables: device32(device, tables, [step.blocks.length, maxBlocks]),
    prefillTiles: device32(device, [...tiles], [tiles.length / 4 + 1, 4]),
    out: out.view([capacity, width]),
    scale: 1 / Math.sqrt(headDim),
    slidingWindow,
    numHeads,
    numKvHeads,
    headDim,
    blockSize,
    maxSplits: numSplits,
  };
  await device.run(
    (rec) => {
      attention(rec, args);
    },
    liveRows(numTokens, {
      numDecodeTokens: step.numDecodeTokens,
      numPrefillTiles: tiles.length / 4,
      splitSize,
      numSplits,
      maxContextLength,
    }),
  );
  const written = await device.read(out);
  expect(written.subarray(numTokens * width).every((x) => x === GUARD)).toBe(true);
  const want = attentionOracle({
    ...args,
    q: step.q,
    keyCache: step.keys,
    valueCache: step.values,
    positions: step.positions,
    blocksOfToken: (token) => step.blocks[step.sequenceIndex[token] ?? 0] ?? [],
  });
  return { got: written.subarray(0, numTokens * width), want };
}

async function check(device: Device, c: Case): Promise<void> {
  const { got, want } = await run(device, c);
  expectClose(got, want, tolerance);
}

const base: Case = {
  numHeads: 8,
  numKvHeads: 4,
  headDim: 32,
  blockSize: 16,
  kvDType: "f32",
  slidingWindow: 0,
  splitBlocks: 2,
  sequences: [],
  seed: 1,
};

// numHeads, numKvHeads, headDim, kvDType: few, as each shape compiles pipelines of its own
const shapes = fc.constantFrom<[number, number, number, "f32" | "f16"]>(
  [8, 4, 32, "f32"],
  [8, 4, 32, "f16"],
  [3, 1, 8, "f32"],
  [8, 2, 16, "f16"],
  [2, 2, 64, "f32"],
  [8, 1, 24, "f32"],
  [4, 1, 128, "f16"],
);
const sequence = fc.oneof(
  fc.record({ numCached: fc.nat(90), numTokens: fc.constant(1) }),
  fc.record({ numCached: fc.nat(60), numTokens: fc.integer({ min: 2, max: 50 }) }),
);
const steps = fc.record({
  sequences: fc.array(sequence, { minLength: 1, maxLength: 5 }),
  slidingWindow: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 70 })),
  splitBlocks: fc.constantFrom(1, 2, 100),
  blockSize: fc.constantFrom(16, 16, 5),
  seed: fc.nat(),
});

test("attention matches the f64 oracle in any mix of decode and prefill", async ({ device }) => {
  const agrees = fc.asyncProperty(shapes, steps, async (shape, step) => {
    const [numHeads, numKvHeads, headDim, kvDType] = shape;
    await check(device, { ...step, numHeads, numKvHeads, headDim, kvDType });
  });
  await fc.assert(agrees, { numRuns: 25, endOnFailure: true });
});

test("decode and prefill meet a window, a block and a split at their edges", async ({ device }) => {
  const lengths = [15, 16, 17, 31, 32, 33];
  for (const slidingWindow of [0, 1, 16, 17, 33]) {
    const decode = lengths.map((numCached) => ({ numCached, numTokens: 1 }));
    const prefill = lengths.map((numTokens) => ({ numCached: 16, numTokens }));
    await check(device, { ...base, slidingWindow, sequences: [...decode, ...prefill] });
  }
});

test("more query heads than one workgroup takes are dealt to several", async ({ device }) => {
  const sequences = [
    { numCached: 40, numTokens: 1 },
    { numCached: 3, numTokens: 18 },
  ];
  await check(device, { ...base, numHeads: 11, numKvHeads: 1, headDim: 8, sequences });
});

test("the largest head fits", async ({ device }) => {
  const sequences = [
    { numCached: 40, numTokens: 1 },
    { numCached: 3, numTokens: 18 },
  ];
  await check(device, { ...base, numHeads: 2, numKvHeads: 1, headDim: 256, sequences });
});

test("a long context in many splits beside a short one", async ({ device }) => {
  const sequences = [
    { numCached: 1500, numTokens: 1 },
    { numCached: 3, numTokens: 1 },
    { numCached: 1470, numTokens: 20 },
  ];
  for (const slidingWindow of [0, 100]) {
    await check(device, { ...base, sequences, slidingWindow, splitBlocks: 4 });
  }
  await check(device, { ...base, sequences, splitBlocks: 100 }); // one split, several chunks
});

test("scores far apart neither overflow nor vanish", async ({ device }) => {
  const sequences = [
    { numCached: 70, numTokens: 1 },
    { numCached: 0, numTokens: 40 },
  ];
  const { got, want } = await run(device, { ...base, sequences, seed: 3 });
  expectClose(got, want, tolerance);
  expect(got.every(Number.isFinite)).toBe(true);
});

test("two runs give the same bits", async ({ device }) => {
  const sequences = [
    { numCached: 200, numTokens: 1 },
    { numCached: 20, numTokens: 40 },
  ];
  const first = await run(device, { ...base, sequences });
  const second = await run(device, { ...base, sequences });
  expect(first.got).toEqual(second.got);
});

test("a step with more partials than the scratch holds is refused", async ({ device }) => {
  const args = { ...base, sequences: [{ numCached: 100, numTokens: 1 }] };
  await check(device, args);
  const live = liveRows(1, { numDecodeTokens: 2000, numSplits: 4, splitSize: 32 });
  const width = base.numHeads * base.headDim;
  const [rows, kv] = [[4, width], [2, 16, base.numKvHeads, base.headDim]];
  const ids = (): AttentionArgs["q"] => device.empty([4], "u32");
  const record = device.run((rec) => {
    attention(rec, {
      ...base,
      q: device.empty(rows),
      out: device.empty(rows),
      keyCache: device.empty(kv),
      valueCache: device.empty(kv),
      positions: ids(),
      sequenceIndex: ids(),
      blockTables: device.empty([1, 2], "u32"),
      prefillTiles: device.empty([1, 4], "u32"),
      scale: 1,
      maxSplits: 4,
    });
  }, live);
  await expect(record).rejects.toThrow("2000 decode tokens of 4 splits take 8000 partials");
});
