import fc from "fast-check";
import { describe, expect } from "vitest";
import type { Device } from "../../src/device/device.ts";
import { hasMatrixKernel } from "../../src/kernels/linearMatrix.ts";
import { expectClose, test } from "../support/gpu.ts";
import { type Case, type Operands, runStep } from "./attentionStep.ts";

/**
 * Against the oracle on the operands that the matrices multiply: what is left is the rounding of the
 * weights to f16, 2^-11 of each, and of f32 sums.
 */
const tolerance = { rtol: 2e-3, atol: 1e-3 };

const halves = (values: ArrayLike<number>): Float64Array =>
  Float64Array.from(values, (value) => Math.f16round(value));

/** q as the shader stages it: scaled to powers of two, then rounded. */
function rounded(scale: number): (operands: Operands) => Operands {
  const staged = Math.fround(scale) * Math.LOG2E;
  return ({ q, keys, values }) => ({
    q: Float64Array.from(q, (x) => Math.f16round(x * staged) / staged),
    keys: halves(keys),
    values: halves(values),
  });
}

async function check(device: Device, c: Case, scale = 1 / Math.sqrt(c.headDim)): Promise<void> {
  const { got, want } = await runStep(device, c, scale, rounded(scale));
  expectClose(got, want, tolerance);
}

const base: Case = {
  numHeads: 8,
  numKvHeads: 2,
  headDim: 64,
  blockSize: 16,
  kvDType: "f16",
  slidingWindow: 0,
  splitBlocks: 100,
  sequences: [],
  seed: 1,
  tuning: "matrix",
};

type Shape = Pick<Case, "numHeads" | "numKvHeads" | "headDim" | "kvDType" | "blockSize">;

function shape(
  numHeads: number,
  numKvHeads: number,
  headDim: number,
  kvDType: Case["kvDType"],
  blockSize: number,
): Shape {
  return { numHeads, numKvHeads, headDim, kvDType, blockSize };
}

const shapes = [
  shape(8, 2, 64, "f16", 16),
  shape(4, 4, 64, "f32", 16), // four tiles a workgroup
  shape(6, 2, 64, "f16", 5), // a workgroup has a tile's three heads and one of the next tile
  shape(8, 2, 128, "f16", 16),
  shape(2, 2, 128, "f32", 5),
  shape(7, 1, 128, "f16", 16),
];
const sequence = fc.oneof(
  fc.record({ numCached: fc.nat(90), numTokens: fc.constant(1) }),
  fc.record({ numCached: fc.nat(200), numTokens: fc.integer({ min: 2, max: 90 }) }),
);
const steps = fc.record({
  sequences: fc.array(sequence, { minLength: 1, maxLength: 6 }),
  slidingWindow: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 120 })),
  seed: fc.nat(),
});

describe("attention with subgroup matrices", () => {
  test("matches the f64 oracle on f16-rounded operands in any mix", async ({ device, skip }) => {
    if (!hasMatrixKernel(device.info)) skip(`${device.info.name} has no f16 subgroup matrices`);
    const agrees = fc.asyncProperty(fc.constantFrom(...shapes), steps, async (kind, step) => {
      await check(device, { ...base, ...step, ...kind });
    });
    await fc.assert(agrees, { numRuns: 40, endOnFailure: true });
  });

  test("tiles of keys, windows and chunks meet at their edges", async ({ device, skip }) => {
    if (!hasMatrixKernel(device.info)) skip(`${device.info.name} has no f16 subgroup matrices`);
    const lengths = [14, 15, 16, 17, 30, 31, 32, 33, 63, 64]; // 14, 30: all but one key of a tile
    const sequences = lengths.flatMap((length) => [
      { numCached: 16, numTokens: length },
      { numCached: length, numTokens: 17 },
    ]);
    for (const kind of shapes) {
      for (const slidingWindow of [0, 1, 17, 64]) {
        await check(device, { ...base, ...kind, slidingWindow, sequences });
      }
    }
  });

  test("a maximum that keeps rising rescales what was summed", async ({ device, skip }) => {
    if (!hasMatrixKernel(device.info)) skip(`${device.info.name} has no f16 subgroup matrices`);
    const sequences = [
      { numCached: 300, numTokens: 40 },
      { numCached: 0, numTokens: 150 },
    ];
    for (const kind of shapes) {
      for (const scale of [2, 40]) await check(device, { ...base, ...kind, sequences }, scale);
    }
  });

  test("two runs give the same bits", async ({ device, skip }) => {
    if (!hasMatrixKernel(device.info)) skip(`${device.info.name} has no f16 subgroup matrices`);
    const c = { ...base, sequences: [{ numCached: 20, numTokens: 400 }] };
    expect((await runStep(device, c)).got).toEqual((await runStep(device, c)).got);
  });
});
