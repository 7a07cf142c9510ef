import fc from "fast-check";
import { expect } from "vitest";
import type { Device } from "../../src/device/device.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import { qkNormRope } from "../../src/kernels/qkNormRope.ts";
import { ropeTable } from "../../src/kernels/rope.ts";
import { expectClose, randomF32, test } from "../support/gpu.ts";
import {
  blockSize,
  eps,
  exact,
  GUARD,
  halves,
  makeInputs,
  maxPositions,
  numBlocks,
  numSlots,
  rope,
  type RopeCase,
  type RopeInputs,
  type RopeOutcome,
  spareRows,
  wantRope,
} from "./ropeCase.ts";

/** qkv as one tensor, or as two or three that add up to it. */
function partialsOf(
  device: Device,
  qkv: Float32Array,
  [rows, columns]: readonly [number, number],
  seed: number,
): ReturnType<Device["upload"]> {
  const others = Array.from({ length: seed % 3 }, (_, p) => randomF32(qkv.length, seed + p));
  const first = qkv.map((value, i) => others.reduce((left, part) => left - (part[i] ?? 0), value));
  const all = new Float32Array((1 + others.length) * qkv.length);
  [first, ...others].forEach((part, p) => {
    all.set(part, p * qkv.length);
  });
  return device.upload(all, [(1 + others.length) * rows, columns]);
}

async function run(device: Device, c: RopeCase, inputs: RopeInputs): Promise<RopeOutcome> {
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
      qkv: partialsOf(device, inputs.qkv, [rows, (numHeads + 2 * numKvHeads) * headDim], c.seed),
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

// few, as each shape compiles a pipeline of its own
const shapes = fc.constantFrom<Omit<RopeCase, "numTokens" | "seed">[]>(
  { numHeads: 8, numKvHeads: 4, headDim: 32, kvDType: "f32", hasNorm: false },
  { numHeads: 8, numKvHeads: 4, headDim: 32, kvDType: "f16", hasNorm: true },
  { numHeads: 9, numKvHeads: 3, headDim: 16, kvDType: "f16", hasNorm: false },
  { numHeads: 2, numKvHeads: 2, headDim: 8, kvDType: "f32", hasNorm: true },
  { numHeads: 3, numKvHeads: 1, headDim: 24, kvDType: "f32", hasNorm: true },
  { numHeads: 2, numKvHeads: 1, headDim: 256, kvDType: "f16", hasNorm: true },
);

test("qkNormRope matches the f64 oracle and writes nothing else", async ({ device }) => {
  const lengths = fc.integer({ min: 1, max: 30 });
  const agrees = fc.asyncProperty(shapes, lengths, fc.nat(), async (shape, numTokens, seed) => {
    const c: RopeCase = { ...shape, numTokens, seed };
    const inputs = makeInputs(c);
    const [got, oracle] = [await run(device, c, inputs), wantRope(c, inputs)];
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
