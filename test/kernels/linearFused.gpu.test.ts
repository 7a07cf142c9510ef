import fc from "fast-check";
import { expect } from "vitest";
import type { Device } from "../../src/device/device.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import type { NormedInput } from "../../src/kernels/fusedGemv.ts";
import { linearFrom, linearOnto } from "../../src/kernels/linearFused.ts";
import type { GemvVariant, LinearChoice } from "../../src/kernels/linearVariant.ts";
import { linearOracle, swigluOracle } from "../oracles/linear.ts";
import { expectClose, randomF32, test } from "../support/gpu.ts";
import { type Guarded, guarded } from "../support/guarded.ts";
import { always, gemv, held, uploadWeight, type WeightCase } from "./linearCase.ts";
import { makeNorm, type NormCase } from "./normCase.ts";

interface Case extends WeightCase, NormCase {
  readonly hasBias: boolean;
  readonly rows: "tokens" | "samples";
}

// Eight tokens compile long: their test has pending sums only, as ranks have.
const cases = (maxTokens: number, minPartials = 0): fc.Arbitrary<Case> =>
  fc.record({
    numTokens: fc.integer({ min: 1, max: maxTokens }),
    spareRows: fc.integer({ min: 0, max: 2 }).filter((rows) => rows + maxTokens <= 8 || rows === 0),
    numOutputs: fc.integer({ min: 1, max: 150 }),
    numChunks: fc.integer({ min: 1, max: 40 }),
    firstPart: fc.integer({ min: 0, max: 40 }),
    dtype: fc.constantFrom("f32", "f16", "bf16"),
    isSwiglu: fc.boolean(),
    hasBias: fc.boolean(),
    rows: fc.constantFrom("tokens", "samples"),
    numPartials: fc.integer({ min: minPartials, max: 4 }),
    seed: fc.nat(),
  });

const eps = 1e-5;

async function runNormed(
  device: Device,
  c: Case,
  choices?: readonly LinearChoice[],
): Promise<void> {
  const { numTokens, numOutputs, isSwiglu, rows, seed } = c;
  const { weight, values } = uploadWeight(device, c);
  const { inFeatures, outFeatures } = weight;
  const { x, updated, normed, sum } = makeNorm(device, c, eps);
  const biasValues = randomF32(outFeatures, seed + 2);
  const out = guarded(device, [numTokens + c.spareRows, numOutputs]);
  const live = liveRows(numTokens, rows === "samples" ? { numTokens: 0 } : { numSamples: 0 });
  await device.run((rec) => {
    linearFrom(rec, {
      x,
      weight,
      out: out.tensor,
      rows,
      activation: isSwiglu ? "swiglu" : "none",
      ...(c.hasBias ? { bias: device.upload(biasValues, [outFeatures]) } : {}),
      ...(choices === undefined ? {} : { choices }),
    });
  }, live);
  const oracle = isSwiglu ? swigluOracle : linearOracle;
  const bias = c.hasBias ? { bias: biasValues } : {};
  const want = oracle({ x: normed, weight: values, inFeatures, outFeatures, ...bias });
  const got = new Float32Array(await out.read(numTokens * numOutputs));
  expectClose(got, want, { rtol: 2e-5, atol: 2e-5 });
  await expectBits(updated, sum);
}

/** Every rank must get the same residual, so its bits are those of f32 sums in rank order. */
async function expectBits(updated: Guarded | undefined, sum: Float32Array): Promise<void> {
  if (updated === undefined) return;
  expect(new Float32Array(await updated.read(sum.length))).toEqual(sum);
}

test("a linear layer with its norm matches the f64 oracle", async ({ device }) => {
  const agrees = fc.asyncProperty(cases(8), async (c) => {
    await runNormed(device, c);
  });
  await fc.assert(agrees, { numRuns: 30 });
});

const forced: [string, GemvVariant, number][] = [
  ["a lane for itself", gemv(1, 16, "alone", "load"), 2],
  ["a lane for itself, activations shared", gemv(1, 16, "alone", "broadcast"), 1],
  ["4 tokens over workgroup memory", gemv(4, 32, "memory", "load"), 6],
  ["8 tokens by subgroups", { ...gemv(8, 32, "subgroup", "load"), streams: 3 }, 8],
  ["1 token by subgroups", gemv(1, 128, "subgroup", "load"), 2],
  ["1 token held by 5 workgroups", held(64, 5), 2],
];

test.for(forced)("with its norm, %s", async ([, variant, maxTokens], { device }) => {
  const agrees = fc.asyncProperty(cases(maxTokens, variant.tokens === 8 ? 1 : 0), async (c) => {
    await runNormed(device, { ...c, dtype: "bf16" }, always(variant));
  });
  await fc.assert(agrees, { numRuns: 12 });
});

async function runOnto(device: Device, c: Case): Promise<void> {
  const { weight, values } = uploadWeight(device, { ...c, isSwiglu: false });
  const { inFeatures, outFeatures } = weight;
  const capacity = c.numTokens + c.spareRows;
  const x = randomF32(capacity * inFeatures, c.seed + 1);
  const residual = randomF32(capacity * outFeatures, c.seed + 2);
  const biasValues = randomF32(outFeatures, c.seed + 3);
  const bias = c.hasBias ? { bias: biasValues } : {};
  const out = guarded(device, [capacity, outFeatures]);
  const before = guarded(device, [capacity, outFeatures]);
  device.write(before.tensor, new Uint8Array(residual.buffer));
  await device.run((rec) => {
    linearOnto(rec, {
      x: device.upload(x, [capacity, inFeatures]),
      weight,
      residual: before.tensor,
      out: out.tensor,
      rows: "tokens",
      ...(c.hasBias ? { bias: device.upload(biasValues, [outFeatures]) } : {}),
    });
  }, liveRows(c.numTokens));
  const live = x.subarray(0, c.numTokens * inFeatures);
  const product = linearOracle({ x: live, weight: values, inFeatures, outFeatures, ...bias });
  const want = product.map((value, i) => value + (residual[i] ?? 0));
  const got = new Float32Array(await out.read(want.length));
  expectClose(got, want, { rtol: 1e-5, atol: 1e-5 });
}

test("a linear layer that adds to the residual matches the f64 oracle", async ({ device }) => {
  const agrees = fc.asyncProperty(cases(8), async (c) => {
    await runOnto(device, c);
  });
  await fc.assert(agrees, { numRuns: 20 });
});

test("linearFrom names what does not fit", ({ device }) => {
  const tensor = device.empty([6, 16], "bf16");
  const weight = { parts: [{ tensor, outOffset: 0 }], outFeatures: 6, inFeatures: 16 };
  const norm = { residual: device.empty([2, 16]), weight: device.empty([16]), eps };
  const record = (x: NormedInput, choices?: readonly LinearChoice[]) => () =>
    device.record((rec) => {
      const out = device.empty([2, 6]);
      linearFrom(rec, { x, weight, out, rows: "tokens", ...(choices && { choices }) });
    });
  expect(record(norm)).not.toThrow();
  expect(record({ ...norm, weight: device.empty([8]) })).toThrow("norm weight: expected [16]");
  const partials = { tensor: device.empty([2, 16]), count: 2, strideElements: 32 };
  const pending = { partials, updated: device.empty([2, 16]) };
  expect(record({ ...norm, pending })).toThrow("partials: expected 64 elements");
  const short = { ...pending, updated: device.empty([1, 16]) };
  expect(record({ ...norm, pending: short })).toThrow("updated: expected [2, 16]");
  expect(record(norm, always({ kind: "gemm" }))).toThrow("at most 8 rows, which a GEMV takes");
});
