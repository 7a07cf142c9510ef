import fc from "fast-check";
import { expect } from "vitest";
import { liveRows } from "../../src/device/liveCounts.ts";
import { rmsNorm } from "../../src/kernels/rmsNorm.ts";
import { rmsNormOracle } from "../oracles/rmsNorm.ts";
import { expectClose, randomF32, test } from "../support/gpu.ts";

const shapes = fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 700 }));
const eps = 1e-6;

test("rmsNorm matches the f64 oracle at any shape", async ({ device }) => {
  const agrees = fc.asyncProperty(shapes, fc.nat(), async ([numTokens, hidden], seed) => {
    const [x, w] = [randomF32(numTokens * hidden, seed), randomF32(hidden, seed + 1)];
    const [xGpu, weight] = [device.upload(x, [numTokens, hidden]), device.upload(w, [hidden])];
    const out = device.empty([numTokens, hidden]);
    await device.run((rec) => {
      rmsNorm(rec, { x: xGpu, weight, out, eps });
    }, liveRows(numTokens));
    expectClose(await device.read(out), rmsNormOracle(x, w, eps), { rtol: 1e-5, atol: 1e-6 });
  });
  const edges = [256, 257].map((hidden): [[number, number], number] => [[2, hidden], 0]);
  await fc.assert(agrees, { numRuns: 50, examples: edges });
});

test("rmsNorm names the tensor whose shape is wrong", ({ device }) => {
  const [x, weight, out] = [device.empty([2, 8]), device.empty([7]), device.empty([2, 8])];
  const record = (): unknown =>
    device.record((rec) => {
      rmsNorm(rec, { x, weight, out, eps });
    });
  expect(record).toThrow("weight: expected [8], got [7]");
});
