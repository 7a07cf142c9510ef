import fc from "fast-check";
import { expect } from "vitest";
import type { Device, Tensor } from "../../src/device/device.ts";
import { attention } from "../../src/kernels/attention.ts";
import { type Case, runStep } from "./attentionStep.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import { expectClose, test } from "../support/gpu.ts";

const tolerance = { rtol: 2e-5, atol: 4e-6 };

async function check(device: Device, c: Case): Promise<void> {
  const { got, want } = await runStep(device, c);
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
  tuning: "software",
};
const tunings = ["software", "hardware"] as const; // every adapter runs the kernels of both

type Shape = Pick<Case, "numHeads" | "numKvHeads" | "headDim" | "kvDType" | "blockSize" | "tuning">;

function shape(
  numHeads: number,
  numKvHeads: number,
  headDim: number,
  kvDType: Case["kvDType"],
  blockSize: number,
  tuning: Case["tuning"],
): Shape {
  return { numHeads, numKvHeads, headDim, kvDType, blockSize, tuning };
}

// few, as each shape compiles pipelines of its own
const shapes = fc.constantFrom<Shape[]>(
  shape(8, 4, 32, "f32", 16, "software"),
  shape(8, 4, 32, "f32", 16, "hardware"),
  shape(2, 2, 64, "f16", 16, "software"),
  shape(3, 1, 24, "f32", 5, "software"),
  shape(8, 2, 16, "f16", 16, "software"),
  shape(11, 1, 8, "f32", 16, "software"), // more heads than a workgroup takes: 4, 4 and 3
  shape(11, 1, 8, "f16", 5, "hardware"), // one lane a key does not make a subgroup: 6 and 5
  shape(4, 1, 64, "f16", 16, "hardware"), // a key a subgroup on lavapipe
  shape(11, 1, 32, "f16", 5, "hardware"), // 4, 4 and 3
  shape(4, 1, 128, "f32", 16, "software"),
);
const sequence = fc.oneof(
  fc.record({ numCached: fc.nat(90), numTokens: fc.constant(1) }),
  fc.record({ numCached: fc.nat(60), numTokens: fc.integer({ min: 2, max: 50 }) }),
);
const steps = fc.record({
  sequences: fc.array(sequence, { minLength: 1, maxLength: 5 }),
  slidingWindow: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 70 })),
  splitBlocks: fc.constantFrom(1, 2, 100),
  seed: fc.nat(),
});

test("attention matches the f64 oracle in any mix of decode and prefill", async ({ device }) => {
  const agrees = fc.asyncProperty(shapes, steps, async (kind, step) => {
    await check(device, { ...step, ...kind });
  });
  await fc.assert(agrees, { numRuns: 30, endOnFailure: true });
});

test("decode and prefill meet a window, a block and a split at their edges", async ({ device }) => {
  const lengths = [15, 16, 17, 31, 32, 33];
  const decode = lengths.map((numCached) => ({ numCached, numTokens: 1 }));
  const prefill = lengths.map((numTokens) => ({ numCached: 16, numTokens }));
  for (const tuning of tunings) {
    for (const slidingWindow of [0, 1, 16, 17, 33]) {
      await check(device, { ...base, tuning, slidingWindow, sequences: [...decode, ...prefill] });
    }
  }
});

test("the largest head fits", async ({ device }) => {
  const sequences = [
    { numCached: 40, numTokens: 1 },
    { numCached: 3, numTokens: 18 },
  ];
  for (const tuning of tunings) {
    await check(device, { ...base, tuning, numHeads: 2, numKvHeads: 1, headDim: 256, sequences });
  }
});

test("a long context in many splits beside a short one", async ({ device }) => {
  const sequences = [
    { numCached: 1500, numTokens: 1 },
    { numCached: 3, numTokens: 1 },
    { numCached: 1470, numTokens: 20 },
  ];
  for (const tuning of tunings) {
    for (const slidingWindow of [0, 100]) {
      await check(device, { ...base, tuning, sequences, slidingWindow, splitBlocks: 4 });
    }
    await check(device, { ...base, tuning, sequences, splitBlocks: 100 }); // one split, several chunks
  }
});

test("many sequences in one split each", async ({ device }) => {
  for (const numSequences of [3, 70]) {
    const sequences = Array.from({ length: numSequences }, (_, i) => ({
      numCached: (i * 37) % 150,
      numTokens: 1,
    }));
    for (const slidingWindow of [0, 20]) {
      const c = {
        ...base,
        tuning: "hardware",
        sequences,
        slidingWindow,
        splitBlocks: 100,
      } as const;
      await check(device, c);
    }
  }
});

test("results as f16 in tiles, of one split, several and prefill", async ({ device }) => {
  const sequences = [
    { numCached: 40, numTokens: 1 },
    { numCached: 3, numTokens: 1 },
    { numCached: 7, numTokens: 19 },
  ];
  for (const of of [
    shape(4, 1, 64, "f16", 16, "hardware"),
    shape(12, 3, 24, "f32", 5, "hardware"),
  ]) {
    for (const splitBlocks of [1, 20]) {
      const c = { ...base, ...of, sequences, splitBlocks, isTiled: true };
      const { got, want } = await runStep(device, c);
      expectClose(got, want, { rtol: 6e-4, atol: 1e-6 });
    }
  }
  const software = { ...base, sequences, isTiled: true };
  await expect(runStep(device, software)).rejects.toThrow("these kernels write no tiles");
});

test("two runs give the same bits", async ({ device }) => {
  const sequences = [
    { numCached: 200, numTokens: 1 },
    { numCached: 20, numTokens: 40 },
  ];
  const first = await runStep(device, { ...base, sequences });
  const second = await runStep(device, { ...base, sequences });
  expect(first.got).toEqual(second.got);
});

test("scores far apart neither overflow nor vanish", async ({ device }) => {
  const sequences = [
    { numCached: 200, numTokens: 1 },
    { numCached: 0, numTokens: 40 },
  ];
  for (const tuning of tunings) {
    const { got, want } = await runStep(device, { ...base, tuning, sequences }, 40);
    expectClose(got, want, { rtol: 1e-3, atol: 1e-3 }); // e^score is off by score's own rounding
  }
});

test("a step with more partials than the scratch holds is refused", async ({ device }) => {
  const live = liveRows(1, { numDecodeTokens: 2000, numSplits: 4, splitSize: 32 });
  const width = base.numHeads * base.headDim;
  const [rows, kv] = [
    [4, width],
    [2, 16, base.numKvHeads, base.headDim],
  ];
  const ids = (): Tensor => device.empty([4], "u32");
  const recorded = device.run((rec) => {
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
  await expect(recorded).rejects.toThrow("2000 decode tokens of 4 splits take 8000 partials");
});
