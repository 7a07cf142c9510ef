import fc from "fast-check";
import { expect } from "vitest";
import type { Device } from "../../src/device/device.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import {
  addPartials,
  normLanes,
  type Partials,
  sumResidualNorm,
} from "../../src/kernels/sumResidualNorm.ts";
import { fromTiles, tilesShape } from "../../src/kernels/activationTiles.ts";
import { rmsNormOracle } from "../oracles/rmsNorm.ts";
import { addPartialsOracle } from "../oracles/sumResidualNorm.ts";
import { expectClose, randomF32, test } from "../support/gpu.ts";
import { type Guarded, guarded } from "../support/guarded.ts";

const cases = fc.record({
  numTokens: fc.integer({ min: 1, max: 4 }),
  spareRows: fc.integer({ min: 0, max: 2 }),
  hidden: fc.integer({ min: 1, max: 350 }).map((quads) => 4 * quads),
  numPartials: fc.integer({ min: 0, max: 5 }),
  spareStride: fc.integer({ min: 0, max: 3 }),
  seed: fc.nat(),
});
type Case = typeof cases extends fc.Arbitrary<infer T> ? T : never;

interface Inputs {
  readonly residual: Guarded;
  readonly partials: Partials;
  readonly want: Float64Array; // the residual after the sum
}

function makeInputs(device: Device, c: Case): Inputs {
  const size = c.numTokens * c.hidden;
  const shape = [c.numTokens + c.spareRows, c.hidden];
  const strideElements = (shape[0] ?? 0) * c.hidden + 4 * c.spareStride;
  const before = randomF32(size, c.seed);
  const residual = guarded(device, shape);
  device.write(residual.tensor, new Uint8Array(before.buffer));
  const partials = Array.from({ length: c.numPartials }, (_, p) => randomF32(size, c.seed + 1 + p));
  const packed = new Float32Array(strideElements * Math.max(1, c.numPartials)).fill(Number.NaN);
  partials.forEach((partial, p) => {
    packed.set(partial, p * strideElements);
  });
  const tensor = device.upload(packed, [packed.length]);
  return {
    residual,
    partials: { tensor, count: c.numPartials, strideElements },
    want: addPartialsOracle(before, partials),
  };
}

const tolerance = { rtol: 1e-5, atol: 1e-6 };

test.for([undefined, 64, 1024])(
  "sumResidualNorm with %s lanes matches the f64 oracle",
  async (wanted, { device }) => {
    const most = device.info.limits.maxComputeInvocationsPerWorkgroup;
    const lanes = wanted === undefined ? {} : { lanes: Math.min(wanted, most) };
    const agrees = fc.asyncProperty(cases, async (c) => {
      const { residual, partials, want } = makeInputs(device, c);
      const weights = randomF32(c.hidden, c.seed + 9);
      const weight = device.upload(weights, [c.hidden]);
      const out = guarded(device, residual.tensor.shape);
      const args = { residual: residual.tensor, weight, out: out.tensor, eps: 1e-5, ...lanes };
      await device.run((rec) => {
        sumResidualNorm(rec, c.numPartials === 0 ? args : { ...args, partials });
      }, liveRows(c.numTokens));
      expectClose(new Float32Array(await residual.read(want.length)), want, tolerance);
      const normed = rmsNormOracle(want, weights, 1e-5);
      expectClose(new Float32Array(await out.read(want.length)), normed, {
        rtol: 2e-5,
        atol: 2e-6,
      });
    });
    await fc.assert(agrees, { numRuns: wanted === undefined ? 25 : 8 });
  },
);

test("sumResidualNorm writes f16 in tiles, clamped to the finite ones, and no other token", async ({
  device,
}) => {
  const [numTokens, capacity, rows, hidden] = [19, 21, 64, 48];
  const before = randomF32(capacity * hidden, 7);
  const weights = randomF32(hidden, 8).map((value, i) => (i === 5 ? 1e6 : value));
  const residual = device.upload(before, [capacity, hidden]);
  const weight = device.upload(weights, [hidden]);
  const sentinel = new Uint16Array(new Float16Array(rows * hidden).fill(-7).buffer);
  const out = device.upload(sentinel, tilesShape(rows, hidden), "f16");
  await device.run((rec) => {
    sumResidualNorm(rec, { residual, weight, out, eps: 1e-5 });
  }, liveRows(numTokens));
  const tiles = new Uint16Array(await device.readBytes(out));
  const got = new Float16Array(fromTiles(tiles, rows, hidden).buffer);
  const normed = rmsNormOracle(Float64Array.from(before), weights, 1e-5);
  const finite = normed
    .slice(0, numTokens * hidden)
    .map((v) => Math.min(65504, Math.max(-65504, v)));
  expectClose(Float32Array.from(got.subarray(0, finite.length)), finite, {
    rtol: 6e-4,
    atol: 1e-6,
  });
  expect(new Set(got.subarray(finite.length))).toEqual(new Set([-7]));
});

test("addPartials matches the f64 oracle", async ({ device }) => {
  const agrees = fc.asyncProperty(cases, async (c) => {
    const { residual, partials, want } = makeInputs(device, c);
    await device.run((rec) => {
      addPartials(rec, { partials, residual: residual.tensor });
    }, liveRows(c.numTokens));
    expectClose(new Float32Array(await residual.read(want.length)), want, tolerance);
  });
  await fc.assert(agrees, { numRuns: 25 });
});

test("partials are added in rank order", async ({ device }) => {
  // 1 + 2^25 - 2^25 is 0 in f32 in this order, and 1 in any order that adds the large ones first.
  const values = [1, 2 ** 25, -(2 ** 25)].flatMap((value) => [value, value, value, value]);
  const tensor = device.upload(Float32Array.from(values), [12]);
  const residual = device.empty([1, 4]);
  await device.run((rec) => {
    addPartials(rec, { partials: { tensor, count: 3, strideElements: 4 }, residual });
  }, liveRows(1));
  expect([...(await device.read(residual))]).toEqual([0, 0, 0, 0]);
});

test("sumResidualNorm names what does not fit", ({ device }) => {
  const [residual, out] = [device.empty([2, 8]), device.empty([2, 8])];
  const record =
    (count: number, numWeights: number): (() => unknown) =>
    () =>
      device.record((rec) => {
        const partials = { tensor: residual, count, strideElements: 16 };
        sumResidualNorm(rec, {
          partials,
          residual,
          weight: device.empty([numWeights]),
          out,
          eps: 0,
        });
      });
  expect(record(1, 7)).toThrow("weight: expected [8], got [7]");
  expect(record(2, 8)).toThrow("partials: expected 32 elements");
});

test("normLanes is a power of two, few on software", ({ device }) => {
  const hardware = { ...device.info, isSoftware: false };
  const lanes = [8, 256, 1000, 2048, 8192].map((hidden) => normLanes(hidden, hardware));
  expect(lanes).toEqual([32, 64, 256, 256, 256]);
  const limits = { ...hardware.limits, maxComputeInvocationsPerWorkgroup: 1024 };
  const few = [256, 2048, 8192].map((hidden) => normLanes(hidden, { ...hardware, limits }, 64));
  expect(few).toEqual([64, 512, 1024]);
  expect(normLanes(2048, { ...hardware, isSoftware: true })).toBe(8);
});
