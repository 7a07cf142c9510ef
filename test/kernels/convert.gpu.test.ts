import fc from "fast-check";
import { expect } from "vitest";
import { f32ToBf16, type WeightDType } from "../../src/common/dtype.ts";
import type { Device } from "../../src/device/device.ts";
import { type LaunchCounts, liveRows } from "../../src/device/liveCounts.ts";
import { convert, convertRows } from "../../src/kernels/convert.ts";
import { encodeWeights } from "../oracles/weights.ts";
import { test } from "../support/gpu.ts";
import { guarded } from "../support/guarded.ts";

type Bits = Float32Array | Uint16Array;

/** The elements' bits, with every NaN made the same. */
function canonical(bits: ArrayBuffer, dtype: WeightDType): number[] {
  if (dtype === "f32") {
    const words = [...new Uint32Array(bits)];
    return words.map((word) => ((word & 0x7fffffff) > 0x7f800000 ? -1 : word));
  }
  const infinity = dtype === "f16" ? 0x7c00 : 0x7f80;
  return [...new Uint16Array(bits)].map((half) => ((half & 0x7fff) > infinity ? -1 : half));
}

async function convertOnGpu(
  device: Device,
  bits: Bits,
  from: WeightDType,
  to: WeightDType,
): Promise<ArrayBuffer> {
  const source = device.upload(bits, [bits.length], from);
  const out = guarded(device, [bits.length], to);
  await device.run((rec) => {
    convert(rec, { from: source, to: out.tensor });
  }, liveRows(1));
  return await out.read();
}

const edges = [
  0,
  -0,
  1,
  -1,
  65504,
  65519.99,
  65520,
  1e-8,
  2 ** -24,
  2 ** -25,
  3 * 2 ** -26,
  6e-5,
  2 ** -14,
]
  .concat([1 + 2 ** -11, 1 + 3 * 2 ** -11, 1 + 2 ** -8, 1 + 3 * 2 ** -9, 3.4e38, 1e-40, Infinity])
  .concat([-Infinity, Number.NaN]);
const pairs = fc
  .array(fc.tuple(fc.float(), fc.float({ min: -2, max: 2 })), { minLength: 1, maxLength: 200 })
  .map((drawn) => Float32Array.from(drawn.flat()));
const directions = (["f32", "f16", "bf16"] as const).flatMap((from) =>
  (["f32", "f16", "bf16"] as const).filter((to) => to !== from).map((to) => [from, to] as const),
);

test.for(directions)("convert %s to %s rounds to nearest even", async ([from, to], { device }) => {
  const agrees = fc.asyncProperty(pairs, async (drawn) => {
    const { bits, values } = encodeWeights(drawn, from);
    const got = await convertOnGpu(device, bits, from, to);
    const want = encodeWeights(values, to).bits;
    expect(canonical(got, to)).toEqual(canonical(want.slice().buffer, to));
  });
  await fc.assert(agrees, { numRuns: 10, examples: [[Float32Array.from(edges)]] });
});

test("convert is exact for every half", async ({ device }) => {
  const all = Uint16Array.from({ length: 0x10000 }, (_, bits) => bits);
  for (const dtype of ["f16", "bf16"] as const) {
    const widened = await convertOnGpu(device, all, dtype, "f32");
    const values = new Float32Array(widened);
    const narrowed =
      dtype === "f16"
        ? new Uint16Array(Float16Array.from(values).buffer)
        : Uint16Array.from(values, f32ToBf16);
    expect(canonical(narrowed.buffer, dtype)).toEqual(canonical(all.buffer, dtype));
  }
});

test("convert names what does not fit", ({ device }) => {
  const record = (from: WeightDType, to: WeightDType, numTo: number): (() => unknown) => {
    const [source, target] = [device.empty([4], from), device.empty([numTo], to)];
    return () =>
      device.record((rec) => {
        convert(rec, { from: source, to: target });
      });
  };
  expect(record("f32", "f16", 6)).toThrow("to: expected as many elements as from");
  expect(record("f16", "f16", 4)).toThrow("to: expected another dtype than f16");
});

test("live rows of several parts are converted where they lie, and nothing else", async ({
  device,
}) => {
  const [columns, capacity, numParts] = [6, 5, 3];
  const [fromStride, toStride] = [capacity * columns + 2, capacity * columns + 4];
  for (const [from, to] of directions) {
    for (const liveCount of [0, 1, 4]) {
      const values = Float32Array.from({ length: numParts * fromStride }, (_, i) => i / 7 - 5);
      const { bits } = encodeWeights(values, from);
      const source = device.upload(bits, [numParts * fromStride], from);
      const fill = new Float32Array(numParts * toStride).fill(-99);
      const unwritten = encodeWeights(fill, to).bits;
      const out = guarded(device, [numParts * toStride], to);
      device.write(out.tensor, new Uint8Array(unwritten.buffer));
      await device.run((rec) => {
        const strides = { numParts, fromStride, toStride };
        const rows = (live: LaunchCounts): number => live.numTokens;
        convertRows(rec, { from: source, to: out.tensor, columns, ...strides, rows });
      }, liveRows(liveCount));
      const whole = canonical(await convertOnGpu(device, bits, from, to), to);
      const want = canonical(unwritten.buffer as ArrayBuffer, to);
      for (let part = 0; part < numParts; part++) {
        for (let i = 0; i < liveCount * columns; i++) {
          want[part * toStride + i] = whole[part * fromStride + i] ?? Number.NaN;
        }
      }
      expect(canonical(await out.read(), to)).toEqual(want);
    }
  }
});

test("rows of an odd number of columns are refused", ({ device }) => {
  const [from, to] = [device.empty([2, 3]), device.empty([2, 3], "f16")];
  const record = (): unknown =>
    device.record((rec) => {
      convertRows(rec, { from, to, columns: 3, rows: () => 2 });
    });
  expect(record).toThrow("columns, fromStride, toStride: expected even numbers, got 3, 0, 0");
});
