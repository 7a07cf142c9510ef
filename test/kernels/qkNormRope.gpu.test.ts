import fc from "fast-check";
import { expect } from "vitest";
import type { Device } from "../../src/device/device.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import { qkNormRope } from "../../src/kernels/qkNormRope.ts";
import { inverseFrequencies, ropeTable, type RopeParameters } from "../../src/kernels/rope.ts";
import { rmsNormOracle } from "../oracles/rmsNorm.ts";
import { rotateHead } from "../oracles/rope.ts";
import { expectClose, randomF32, test } from "../support/gpu.ts";

interface Case {
  readonly numTokens: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly kvDType: "f32" | "f16";
  readonly hasNorm: boolean;
  readonly seed: number;
}

const rope: RopeParameters = { type: "default", theta: 10_000 };
const [eps, maxPositions, blockSize, numBlocks] = [1e-6, 300, 4, 10];
const numSlots = blockSize * numBlocks;
const spareRows = 2;
const GUARD = 2048; // exact in f16

interface Outcome {
  readonly q: Float32Array; // [numTokens + spareRows, numHeads * headDim]
  readonly keys: Float32Array; // [numSlots, numKvHeads * headDim]
  readonly values: Float32Array;
}

interface Inputs {
  readonly qkv: Float32Array<ArrayBuffer>;
  readonly qNorm: Float32Array<ArrayBuffer>;
  readonly kNorm: Float32Array<ArrayBuffer>;
  readonly positions: readonly number[];
  readonly slots: readonly number[];
}

function makeInputs({ numTokens, numHeads, numKvHeads, headDim, seed }: Case): Inputs {
  const order = randomF32(numSlots, seed + 3);
  const slots = Array.from({ length: numSlots }, (_, i) => i);
  slots.sort((a, b) => (order[a] ?? 0) - (order[b] ?? 0));
  const rows = numTokens + spareRows;
  return {
    qkv: randomF32(rows * (numHeads + 2 * numKvHeads) * headDim, seed),
    qNorm: randomF32(headDim, seed + 1),
    kNorm: randomF32(headDim, seed + 2),
    positions: [...randomF32(rows, seed + 4)].map((x) => Math.floor(((x + 1) / 2) * maxPositions)),
    slots: slots.slice(0, rows),
  };
}

async function run(device: Device, c: Case, inputs: Inputs): Promise<Outcome> {
  const { numTokens, numHeads, numKvHeads, headDim, kvDType } = c;
  const rows = numTokens + spareRows;
  const table = ropeTable(rope, headDim, maxPositions);
  const kvShape = [numBlocks, blockSize, numKvHeads, headDim];
  const guards = new Float32Array(numSlots * numKvHeads * headDim).fill(GUARD);
  const packed = kvDType === "f32" ? guards : new Uint16Array(new Float16Array(guards).buffer);
  const guarded = (): ReturnType<Device["upload"]> => device.upload(packed, kvShape, kvDType);
  const [keyCache, valueCache] = [guarded(), guarded()];
  const width = numHeads * headDim;
  const q = device.upload(new Float32Array(rows * width).fill(GUARD), [rows, width]);
  const norms = {
    qNorm: device.upload(inputs.qNorm, [headDim]),
    kNorm: device.upload(inputs.kNorm, [headDim]),
  };
  await device.run((rec) => {
    qkNormRope(rec, {
      qkv: device.upload(inputs.qkv, [rows, (numHeads + 2 * numKvHeads) * headDim]),
      positions: device.upload(new Uint32Array(inputs.positions), [rows], "u32"),
      slotMapping: device.upload(new Uint32Array(inputs.slots), [rows], "u32"),
      ropeTable: device.upload(table, [maxPositions, headDim]),
      ...(c.hasNorm ? norms : {}),
      eps,
      q,
      keyCache,
      valueCache,
      kvDType,
      numHeads,
      numKvHeads,
      headDim,
    });
  }, liveRows(numTokens));
  const wide = (bytes: ArrayBuffer): Float32Array =>
    kvDType === "f32" ? new Float32Array(bytes) : Float32Array.from(new Float16Array(bytes));
  return {
    q: await device.read(q),
    keys: wide(await device.readBytes(keyCache)),
    values: wide(await device.readBytes(valueCache)),
  };
}

function want(c: Case, { qkv, qNorm, kNorm, positions, slots }: Inputs): Outcome {
  const { numTokens, numHeads, numKvHeads, headDim, hasNorm } = c;
  const heads = numHeads + 2 * numKvHeads;
  const frequencies = inverseFrequencies(rope, headDim);
  const q = new Float32Array((numTokens + spareRows) * numHeads * headDim).fill(GUARD);
  const keys = new Float32Array(numSlots * numKvHeads * headDim).fill(GUARD);
  const values = keys.slice();
  for (let token = 0; token < numTokens; token++) {
    for (let head = 0; head < heads; head++) {
      const begin = (token * heads + head) * headDim;
      const x = qkv.subarray(begin, begin + headDim);
      const turn = (norm: Float32Array): Float64Array =>
        rotateHead(hasNorm ? rmsNormOracle(x, norm, eps) : x, positions[token] ?? 0, frequencies);
      const cacheRow = (kvHead: number): number =>
        ((slots[token] ?? 0) * numKvHeads + kvHead) * headDim;
      const kvHead = head - numHeads;
      if (kvHead < 0) q.set(turn(qNorm), (token * numHeads + head) * headDim);
      else if (kvHead < numKvHeads) keys.set(turn(kNorm), cacheRow(kvHead));
      else values.set(x, cacheRow(kvHead - numKvHeads));
    }
  }
  return { q, keys, values };
}

// few, as each shape compiles a pipeline of its own
const shapes = fc.constantFrom<Omit<Case, "numTokens" | "seed">[]>(
  { numHeads: 8, numKvHeads: 4, headDim: 32, kvDType: "f32", hasNorm: false },
  { numHeads: 8, numKvHeads: 4, headDim: 32, kvDType: "f16", hasNorm: true },
  { numHeads: 9, numKvHeads: 3, headDim: 16, kvDType: "f16", hasNorm: false },
  { numHeads: 2, numKvHeads: 2, headDim: 8, kvDType: "f32", hasNorm: true },
  { numHeads: 3, numKvHeads: 1, headDim: 24, kvDType: "f32", hasNorm: true },
  { numHeads: 2, numKvHeads: 1, headDim: 256, kvDType: "f16", hasNorm: true },
);
const exact = { rtol: 1e-5, atol: 2e-6 };
const halves = { rtol: 1e-3, atol: 1e-4 }; // half an ulp of f16 is 4.9e-4

test("qkNormRope matches the f64 oracle and writes nothing else", async ({ device }) => {
  const lengths = fc.integer({ min: 1, max: 30 });
  const agrees = fc.asyncProperty(shapes, lengths, fc.nat(), async (shape, numTokens, seed) => {
    const c: Case = { ...shape, numTokens, seed };
    const inputs = makeInputs(c);
    const [got, oracle] = [await run(device, c, inputs), want(c, inputs)];
    const stored = c.kvDType === "f32" ? exact : halves;
    expectClose(got.q, oracle.q, exact);
    expectClose(got.keys, oracle.keys, stored);
    expectClose(got.values, oracle.values, stored);
  });
  await fc.assert(agrees, { numRuns: 40 });
});

test("qkNormRope names what is wrong", ({ device }) => {
  const [kv, ids] = [device.empty([2, 4, 1, 8]), device.empty([2], "u32")];
  const args = {
    qkv: device.empty([2, 32]),
    positions: ids,
    slotMapping: ids,
    ropeTable: device.empty([10, 8]),
    eps,
    q: device.empty([2, 16]),
    keyCache: kv,
    valueCache: kv,
    kvDType: "f32" as const,
    numHeads: 2,
    numKvHeads: 1,
    headDim: 8,
  };
  const record = (more: object) => () =>
    device.record((rec) => {
      qkNormRope(rec, { ...args, ...more });
    });
  expect(record({})).not.toThrow();
  expect(record({ qNorm: device.empty([8]) })).toThrow("expected both or neither");
  expect(record({ qkv: device.empty([2, 24]) })).toThrow("qkv: expected [2, 32], got [2, 24]");
  expect(record({ kvDType: "f16" })).toThrow("keyCache: expected dtype f16, got f32");
});
