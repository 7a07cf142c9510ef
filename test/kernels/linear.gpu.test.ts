import fc from "fast-check";
import { expect } from "vitest";
import type { WeightDType } from "../../src/common/dtype.ts";
import type { Device } from "../../src/device/device.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import { linear, type LinearArgs, type LinearWeight } from "../../src/kernels/linear.ts";
import type { LinearChoice, LinearVariant } from "../../src/kernels/linearVariant.ts";
import { linearOracle, swigluOracle } from "../oracles/linear.ts";
import { hasMatrixKernel } from "../../src/kernels/linearMatrix.ts";
import { expectClose, randomF32, test } from "../support/gpu.ts";
import { guarded } from "../support/guarded.ts";
import { always, gemv, held, uploadWeight, type WeightCase } from "./linearCase.ts";

interface Case extends WeightCase {
  readonly numTokens: number;
  readonly spareRows: number;
  readonly hasBias: boolean;
  readonly rows: "tokens" | "samples";
}

const cases = (maxTokens: number, dtypes: readonly WeightDType[]): fc.Arbitrary<Case> =>
  fc.record({
    numTokens: fc.integer({ min: 1, max: maxTokens }),
    spareRows: fc.integer({ min: 0, max: 3 }),
    numOutputs: fc.integer({ min: 1, max: 150 }),
    numChunks: fc.integer({ min: 1, max: 40 }),
    firstPart: fc.integer({ min: 0, max: 40 }),
    dtype: fc.constantFrom(...dtypes),
    isSwiglu: fc.boolean(),
    hasBias: fc.boolean(),
    rows: fc.constantFrom("tokens", "samples"),
    seed: fc.nat(),
  });

async function runCase(device: Device, c: Case, choices?: readonly LinearChoice[]): Promise<void> {
  const { numTokens, numOutputs, isSwiglu, rows, seed } = c;
  const { weight, values } = uploadWeight(device, c);
  const { inFeatures, outFeatures } = weight;
  const capacity = numTokens + c.spareRows;
  const x = randomF32(numTokens * inFeatures, seed + 1);
  const biasValues = randomF32(outFeatures, seed + 2);
  const xGpu = guarded(device, [capacity, inFeatures]).tensor; // rows past the live ones are not zeros
  device.write(xGpu, new Uint8Array(x.buffer));
  const out = guarded(device, [capacity, numOutputs]);
  const args: LinearArgs = {
    x: xGpu,
    weight,
    out: out.tensor,
    rows,
    activation: isSwiglu ? "swiglu" : "none",
    ...(c.hasBias ? { bias: device.upload(biasValues, [outFeatures]) } : {}),
    ...(choices === undefined ? {} : { choices }),
  };
  const live = liveRows(numTokens, rows === "samples" ? { numTokens: 0 } : { numSamples: 0 });
  await device.run((rec) => {
    linear(rec, args);
  }, live);
  const bias = c.hasBias ? { bias: biasValues } : {};
  const oracle = isSwiglu ? swigluOracle : linearOracle;
  const want = oracle({ x, weight: values, inFeatures, outFeatures, ...bias });
  const got = new Float32Array(await out.read(numTokens * numOutputs));
  // tensor cores take f16 operands; linearMatrix.gpu.test.ts holds them to an oracle that rounds them too
  const isHalf = choices === undefined && hasMatrixKernel(device.info);
  const atol = isHalf ? 2e-3 * Math.sqrt(inFeatures) : 1e-5;
  expectClose(got, want, { rtol: isHalf ? 2e-3 : 1e-5, atol });
}

test("linear matches the f64 oracle with the variants of this adapter", async ({ device }) => {
  const agrees = fc.asyncProperty(cases(40, ["f32", "f16", "bf16"]), async (c) => {
    await runCase(device, c);
  });
  await fc.assert(agrees, { numRuns: 30 });
});

const forced: [string, LinearVariant, number][] = [
  ["gemv, a lane for itself", gemv(1, 16, "alone", "load"), 1],
  ["gemv of 4 tokens, activations shared", gemv(4, 16, "alone", "broadcast"), 6],
  ["gemv over workgroup memory", gemv(1, 64, "memory", "load"), 1],
  ["gemv of 8 tokens over workgroup memory", gemv(8, 32, "memory", "load"), 11],
  ["gemv of 4 tokens by subgroups", gemv(4, 64, "subgroup", "load"), 6],
  ["gemv over 3 stretches of the weight", { ...gemv(1, 64, "memory", "load"), streams: 3 }, 1],
  ["3 workgroups that hold the activations", held(32, 3), 2],
  ["lanes for themselves over 7", { ...gemv(4, 4, "alone", "load"), streams: 7 }, 6],
  ["gemm", { kind: "gemm" }, 80],
];

test.for(forced)("%s matches the f64 oracle", async ([, variant, maxTokens], { device }) => {
  const agrees = fc.asyncProperty(cases(maxTokens, ["bf16"]), async (c) => {
    await runCase(device, c, always(variant));
  });
  await fc.assert(agrees, { numRuns: 12 });
});

test.for([1, 64])("linear spreads %d streams over two dimensions", async (streams, { device }) => {
  const numOutputs = device.info.limits.maxComputeWorkgroupsPerDimension * 4 + 9;
  const variant = { ...gemv(1, 1, "alone", "load"), streams };
  const c: Case = {
    numTokens: 1,
    spareRows: 0,
    numOutputs,
    numChunks: 1,
    firstPart: 0,
    dtype: "bf16",
    isSwiglu: false,
    hasBias: false,
    rows: "samples",
    seed: 7,
  };
  await runCase(device, c, always(variant));
});

test("linear names what does not fit", ({ device }) => {
  const tensor = device.empty([6, 16], "bf16");
  const weight: LinearWeight = {
    parts: [{ tensor, outOffset: 0 }],
    outFeatures: 6,
    inFeatures: 16,
  };
  const record = (args: Partial<LinearArgs>): (() => unknown) => {
    const [x, out] = [device.empty([2, 16]), device.empty([2, 6])];
    return () =>
      device.record((rec) => {
        linear(rec, { x, weight, out, rows: "tokens", ...args });
      });
  };
  expect(record({ x: device.empty([2, 24]) })).toThrow("x: expected [2, 16], got [2, 24]");
  expect(record({ out: device.empty([2, 5]) })).toThrow("out: expected [capacity, 6 or more]");
  expect(record({ bias: device.empty([3]) })).toThrow("bias: expected [6], got [3]");
  expect(record({ weight: { ...weight, outFeatures: 5 } })).toThrow(
    "expected 5 rows over its parts, got 6",
  );
});
