import fc from "fast-check";
import { expect } from "vitest";
import type { Device } from "../../src/device/device.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import type { LinearChoice } from "../../src/kernels/linearVariant.ts";
import { qkvRope } from "../../src/kernels/qkvRope.ts";
import { ropeTable } from "../../src/kernels/rope.ts";
import { linearOracle } from "../oracles/linear.ts";
import { expectClose, randomF32, test } from "../support/gpu.ts";
import { always, gemv, held, uploadWeight, type WeightCase } from "./linearCase.ts";
import { makeNorm, type NormCase } from "./normCase.ts";
import {
  blockSize,
  GUARD,
  halves,
  makeInputs,
  maxPositions,
  numBlocks,
  numSlots,
  rope,
  type RopeCase,
  type RopeOutcome,
  spareRows,
  wantRope,
} from "./ropeCase.ts";

interface Case extends RopeCase, NormCase {
  readonly dtype: WeightCase["dtype"];
  readonly hasBias: boolean;
  readonly choices?: readonly LinearChoice[];
}

const eps = 1e-5;

interface Result {
  readonly got: RopeOutcome;
  readonly oracle: RopeOutcome;
  readonly labels: readonly string[];
}

async function run(device: Device, c: Case): Promise<Result> {
  const { numTokens, numHeads, numKvHeads, headDim, kvDType } = c;
  const rows = numTokens + spareRows;
  const numOutputs = (numHeads + 2 * numKvHeads) * headDim;
  const inputs = makeInputs(c);
  const { weight, values } = uploadWeight(device, {
    ...c,
    numOutputs,
    isSwiglu: false,
    firstPart: 0,
  });
  const { x, updated, normed, sum } = makeNorm(device, c, eps);
  const biasValues = randomF32(numOutputs, c.seed + 2);
  const guards = new Float32Array(numSlots * numKvHeads * headDim).fill(GUARD);
  const packed = kvDType === "f32" ? guards : new Uint16Array(new Float16Array(guards).buffer);
  const kvShape = [numBlocks, blockSize, numKvHeads, headDim];
  const [keyCache, valueCache] = [
    device.upload(packed, kvShape, kvDType),
    device.upload(packed, kvShape, kvDType),
  ];
  const width = numHeads * headDim;
  const q = device.upload(new Float32Array(rows * width).fill(GUARD), [rows, width]);
  const norms = {
    qNorm: device.upload(inputs.qNorm, [headDim]),
    kNorm: device.upload(inputs.kNorm, [headDim]),
  };
  const labels: string[] = [];
  await device.run((rec) => {
    qkvRope(rec, {
      x,
      weight,
      ...(c.hasBias ? { bias: device.upload(biasValues, [numOutputs]) } : {}),
      ...(c.choices === undefined ? {} : { choices: c.choices }),
      positions: device.upload(new Uint32Array(inputs.positions), [rows], "u32"),
      slotMapping: device.upload(new Uint32Array(inputs.slots), [rows], "u32"),
      ropeTable: device.upload(ropeTable(rope, headDim, maxPositions), [maxPositions, headDim]),
      ...(c.hasNorm ? norms : {}),
      eps: 1e-6,
      q,
      keyCache,
      valueCache,
      kvDType,
      numHeads,
      numKvHeads,
      headDim,
    });
    labels.push(...rec.ops.map(({ label }) => label));
  }, liveRows(numTokens));
  const bias = c.hasBias ? { bias: biasValues } : {};
  const { inFeatures, outFeatures } = weight;
  const qkv = linearOracle({ x: normed, weight: values, inFeatures, outFeatures, ...bias });
  if (updated !== undefined) {
    expect(new Float32Array(await updated.read(sum.length))).toEqual(sum);
  }
  const wide = (bytes: ArrayBuffer): Float32Array =>
    kvDType === "f32" ? new Float32Array(bytes) : Float32Array.from(new Float16Array(bytes));
  return {
    got: {
      q: await device.read(q),
      keys: wide(await device.readBytes(keyCache)),
      values: wide(await device.readBytes(valueCache)),
    },
    oracle: wantRope(c, { ...inputs, qkv: Float32Array.from(qkv) }),
    labels,
  };
}

async function check(device: Device, c: Case): Promise<readonly string[]> {
  const { got, oracle, labels } = await run(device, c);
  const close = { rtol: 3e-5, atol: 3e-5 }; // of a norm, a linear layer and a rotation
  const stored = c.kvDType === "f32" ? close : halves;
  expectClose(got.q, oracle.q, close);
  expectClose(got.keys, oracle.keys, stored);
  expectClose(got.values, oracle.values, stored);
  return labels;
}

// few, as each shape compiles pipelines of its own
const shapes = fc.constantFrom<
  (Pick<Case, "numHeads" | "numKvHeads" | "headDim" | "kvDType" | "dtype"> & {
    maxPartials: number;
  })[]
>(
  { numHeads: 8, numKvHeads: 4, headDim: 32, kvDType: "f32", dtype: "bf16", maxPartials: 3 },
  { numHeads: 9, numKvHeads: 3, headDim: 16, kvDType: "f16", dtype: "f32", maxPartials: 0 },
  { numHeads: 3, numKvHeads: 1, headDim: 24, kvDType: "f32", dtype: "f16", maxPartials: 2 },
  { numHeads: 2, numKvHeads: 2, headDim: 8, kvDType: "f16", dtype: "bf16", maxPartials: 0 },
);

const cases = (maxTokens: number): fc.Arbitrary<Omit<Case, "hasNorm">> =>
  fc
    .record({
      shape: shapes,
      numTokens: fc.integer({ min: 1, max: maxTokens }),
      numChunks: fc.integer({ min: 1, max: 20 }),
      drawn: fc.nat(),
      hasBias: fc.boolean(),
      seed: fc.nat(),
    })
    .map(({ shape, drawn, ...c }) => {
      const numPartials = shape.maxPartials && 1 + (drawn % shape.maxPartials);
      return { ...shape, ...c, numPartials, spareRows };
    });

test("q, k and v match the f64 oracle in one launch, and nothing else is written", async ({
  device,
}) => {
  const agrees = fc.asyncProperty(cases(8 - spareRows), async (c) => {
    const labels = await check(device, { ...c, hasNorm: false });
    expect(labels.filter((label) => !label.startsWith("norm_qkv_rope"))).toEqual([]);
  });
  await fc.assert(agrees, { numRuns: 25 });
});

test("with a norm of q and k it takes two launches", async ({ device }) => {
  const agrees = fc.asyncProperty(cases(3), async (c) => {
    const labels = await check(device, { ...c, hasNorm: true });
    expect(labels.at(-1)).toBe("qk_norm_rope");
  });
  await fc.assert(agrees, { numRuns: 6 });
});

test.for([
  ["1 token over workgroup memory", { ...gemv(1, 64, "memory", "load"), streams: 5 }],
  ["4 tokens by subgroups", gemv(4, 32, "subgroup", "load")],
  ["1 token held by 4 workgroups", held(32, 4)],
] as const)("%s", async ([, variant], { device }) => {
  const agrees = fc.asyncProperty(cases(6), async (c) => {
    const shape = { numHeads: 9, numKvHeads: 3, headDim: 16, kvDType: "f16" } as const;
    await check(device, {
      ...c,
      ...shape,
      dtype: "bf16",
      hasNorm: false,
      choices: always(variant),
    });
  });
  await fc.assert(agrees, { numRuns: 10 });
});

test("qkvRope names a weight of the wrong size", ({ device }) => {
  const [kv, ids] = [device.empty([2, 4, 1, 8]), device.empty([2], "u32")];
  const tensor = device.empty([24, 16], "bf16");
  const record = (): unknown =>
    device.record((rec) => {
      qkvRope(rec, {
        x: device.empty([2, 16]),
        weight: { parts: [{ tensor, outOffset: 0 }], outFeatures: 24, inFeatures: 16 },
        positions: ids,
        slotMapping: ids,
        ropeTable: device.empty([10, 8]),
        eps,
        q: device.empty([2, 16]),
        keyCache: kv,
        valueCache: kv,
        kvDType: "f32",
        numHeads: 2,
        numKvHeads: 1,
        headDim: 8,
      });
    });
  expect(record).toThrow("weight: expected 32 rows, got 24");
});
