import fc from "fast-check";
import { expect } from "vitest";
import { dummyKind, dummyScale, dummyValue, fnv1a32 } from "../../models/weights/dummy.ts";
import type { WeightDType } from "../../src/common/dtype.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import { dummyFill } from "../../src/kernels/dummyFill.ts";
import { encodeWeights } from "../oracles/weights.ts";
import { test } from "../support/gpu.ts";
import { guarded } from "../support/guarded.ts";

const names = [
  "model.layers.3.self_attn.q_proj.weight",
  "model.embed_tokens.weight",
  "model.norm.weight",
  "model.layers.0.self_attn.q_proj.bias",
];
const cases = fc.record({
  name: fc.constantFrom(...names),
  firstRow: fc.nat(200_000),
  numRows: fc.integer({ min: 1, max: 9 }),
  firstColumn: fc.nat(1000),
  numColumns: fc.integer({ min: 1, max: 90 }),
  rowsBefore: fc.integer({ min: 0, max: 2 }),
  rowsAfter: fc.integer({ min: 0, max: 2 }),
  dtype: fc.constantFrom<WeightDType>("f32", "f16", "bf16"),
});
type Case = typeof cases extends fc.Arbitrary<infer T> ? T : never;

const scaleOf = (name: string, shape: readonly number[]): number | "norm" =>
  dummyKind(name) === "norm" ? "norm" : dummyScale(name, shape);

/** The slice's rows, zeros up to `columns`. */
function wantedValues(c: Case, shape: readonly number[], columns: number): number[] {
  return Array.from({ length: c.numRows * columns }, (_, i) => {
    const column = i % columns;
    const row = (i - column) / columns;
    if (column >= c.numColumns) return 0;
    return dummyValue(c.name, shape, c.firstRow + row, c.firstColumn + column);
  });
}

test("dummyFill gives the bits of the dummy weights on the host", async ({ device }) => {
  const agrees = fc.asyncProperty(cases, async (c) => {
    const columns = Math.ceil(c.numColumns / 8) * 8;
    const shape = [300_000, 2000];
    const out = guarded(device, [c.rowsBefore + c.numRows + c.rowsAfter, columns], c.dtype);
    const { firstRow, firstColumn, numColumns, numRows } = c;
    const slice = { firstRow, firstColumn, numColumns, numRows, outRow: c.rowsBefore };
    await device.run((rec) => {
      const scale = scaleOf(c.name, shape);
      dummyFill(rec, { out: out.tensor, seed: fnv1a32(c.name), scale, ...slice });
    }, liveRows(1));
    const { bits } = encodeWeights(wantedValues(c, shape, columns), c.dtype);
    const end = (c.rowsBefore + c.numRows) * columns;
    const got = new Uint8Array(await out.read(end));
    const want = new Uint8Array(bits.buffer, bits.byteOffset, bits.byteLength);
    expect([...got.subarray(got.length - want.length)]).toEqual([...want]);
    const before = new Uint32Array(got.slice(0, got.length - want.length).buffer);
    expect(new Set(before).size).toBeLessThanOrEqual(1); // the guard's sentinel
  });
  await fc.assert(agrees, { numRuns: 30 });
});

test("dummyFill takes the smallest scale and 1-D tensors of odd length", async ({ device }) => {
  const [name, shape] = ["model.layers.0.mlp.down_proj.weight", [8, 2 ** 40]] as const;
  for (const dtype of ["f16", "bf16"] as const) {
    const out = guarded(device, [13], dtype);
    const slice = { firstRow: 0, firstColumn: 5, numColumns: 13 };
    await device.run((rec) => {
      const scale = dummyScale(name, shape);
      dummyFill(rec, { out: out.tensor, seed: fnv1a32(name), scale, ...slice });
    }, liveRows(1));
    const values = Array.from({ length: 13 }, (_, i) => dummyValue(name, shape, 0, 5 + i));
    const want = encodeWeights(values, dtype).bits;
    expect([...new Uint16Array(await out.read(13))]).toEqual([...want]);
  }
});

test("dummyFill names what does not fit", ({ device }) => {
  const out = device.empty([4, 8], "f16");
  const record = (): unknown =>
    device.record((rec) => {
      const slice = { firstRow: 0, firstColumn: 0, numColumns: 9 };
      dummyFill(rec, { out, seed: 1, scale: 1, ...slice });
    });
  expect(record).toThrow("out: expected room for rows 0 to 4 of 9 columns, got [4, 8]");
});
