import fc from "fast-check";
import { describe, expect } from "vitest";
import type { Device, Tensor } from "../../src/device/device.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import { fromTiles, tilesShape } from "../../src/kernels/activationTiles.ts";
import { linear } from "../../src/kernels/linear.ts";
import {
  hasMatrixKernel,
  linearMatrix,
  linearSplit,
  type MatrixKind,
  MIN_MATRIX_OUT_BYTES,
} from "../../src/kernels/linearMatrix.ts";
import { withMatrices } from "../support/emulatedMatrices.ts";
import { openTestDevice, randomF32, test as base } from "../support/gpu.ts";
import { type Case, cases, edges, encode, oracle, rounded, tiled } from "./matrixCase.ts";

let emulated: Promise<Device> | undefined;

/** The adapter's own matrices, or plain WGSL in their place. */
const test = base.extend<{ matrices: Device }>({
  matrices: async ({ device, skip }, use) => {
    const isEmulated = !hasMatrixKernel(device.info);
    if (isEmulated && device.info.name.includes("llvmpipe")) {
      skip("lavapipe takes minutes to compile matrices in plain WGSL; SwiftShader runs them");
    }
    if (isEmulated) emulated ??= openTestDevice().then(withMatrices);
    await use((await emulated) ?? device);
  },
});
/** Of a property: fewer where matrices are emulated. */
const runs = (few = 6): number => (emulated === undefined ? 16 : few);

interface Outcome {
  readonly got: Float32Array;
  readonly want: Float64Array;
  readonly untouched: boolean;
}

async function run(device: Device, c: Case, seed: number, kind: MatrixKind): Promise<Outcome> {
  const capacity = Math.max(c.tokens + c.spare, Math.ceil(MIN_MATRIX_OUT_BYTES / 4 / c.outputs));
  const rows = c.swiglu ? 2 * c.outputs : c.outputs;
  const [x, w, b] = [
    randomF32(capacity * c.inFeatures, seed),
    randomF32(rows * c.inFeatures, seed + 1),
    randomF32(rows, seed + 2),
  ];
  const tensor = device.upload(encode(w, c.dtype), [rows, c.inFeatures], c.dtype);
  const weight = { parts: [{ tensor, outOffset: 0 }], outFeatures: rows, inFeatures: c.inFeatures };
  const guarded = device.upload(new Float32Array((capacity + 2) * c.outputs + 128).fill(-7), [
    (capacity + 2) * c.outputs + 128,
  ]);
  const out = guarded.view([capacity, c.outputs], 64);
  const bias: { bias?: Tensor } = c.bias ? { bias: device.upload(b, [rows]) } : {};
  await device.run((rec) => {
    const xGpu = device.upload(x, [capacity, c.inFeatures]);
    const args = { x: xGpu, weight, out, rows: "tokens", ...bias } as const;
    const activation = c.swiglu ? "swiglu" : "none";
    linearMatrix(rec, { ...args, activation }, { minRows: 1, maxRows: Infinity }, kind);
  }, liveRows(c.tokens));
  const all = await device.read(guarded);
  const end = 64 + capacity * c.outputs;
  const outside = [...all.subarray(0, 64), ...all.subarray(end)];
  device.free(tensor);
  device.free(guarded);
  return {
    got: all.subarray(64, 64 + c.tokens * c.outputs),
    want: oracle(c, rounded(x.subarray(0, c.tokens * c.inFeatures), "f32"), rounded(w, c.dtype), b),
    untouched: outside.every((value) => value === -7),
  };
}

/** Products of halves are exact in f32; sums of K of them err by rounding alone. */
function expectSums({ got, want }: Outcome, inFeatures: number): void {
  let worst = 0;
  for (const [i, value] of want.entries()) {
    const scale = Math.abs(value) + Math.sqrt(inFeatures);
    worst = Math.max(worst, Math.abs((got[i] ?? Number.NaN) - value) / scale);
  }
  expect(worst).toBeLessThan(2e-5);
}

interface SplitCase {
  readonly tokens: number;
  readonly outputs: number;
  readonly inFeatures: number;
  readonly splits: number;
  readonly tileRows: 64 | 128;
}

const splitCases: fc.Arbitrary<SplitCase> = fc.record({
  tokens: fc.integer({ min: 1, max: 64 }),
  outputs: fc.integer({ min: 8, max: 300 }),
  inFeatures: fc.integer({ min: 1, max: 50 }).map((sixteens) => sixteens * 16),
  splits: fc.constantFrom(1, 2, 4, 8),
  tileRows: fc.constantFrom(64, 128),
});

/** Whole tiles, whose sums are stored directly: an even and an odd number of slices a part. */
const splitEdges: SplitCase[] = [
  { tokens: 33, outputs: 256, inFeatures: 512, splits: 4, tileRows: 64 },
  { tokens: 20, outputs: 256, inFeatures: 768, splits: 4, tileRows: 128 },
];

/** The sum over the parts; the rows past the live ones of each part stay as they were unless stored directly. */
async function runSplit(device: Device, c: SplitCase, seed: number): Promise<Outcome> {
  const { tokens, outputs, inFeatures, splits, tileRows } = c;
  const capacity = 64;
  const [x, w] = [
    randomF32(capacity * inFeatures, seed),
    randomF32(outputs * inFeatures, seed + 1),
  ];
  const tensor = device.upload(encode(w, "f16"), [outputs, inFeatures], "f16");
  const weight = { parts: [{ tensor, outOffset: 0 }], outFeatures: outputs, inFeatures };
  const total = splits * capacity * outputs;
  const out = device.upload(new Float32Array(total).fill(-7), [splits * capacity, outputs]);
  await device.run((rec) => {
    const halves = device.upload(
      tiled(x, inFeatures, tokens),
      tilesShape(capacity, inFeatures),
      "f16",
    );
    linearSplit(rec, { x: halves, weight, out, rows: "tokens" }, splits, tileRows);
  }, liveRows(tokens));
  const all = await device.read(out);
  const got = new Float32Array(tokens * outputs);
  let untouched = true;
  const isDirect = outputs % tileRows === 0;
  for (const [i, value] of all.entries()) {
    const inPart = i % (capacity * outputs);
    if (inPart < got.length) got[inPart] = (got[inPart] ?? 0) + value;
    else untouched &&= isDirect || value === -7;
  }
  device.free(tensor);
  device.free(out);
  const plain = { ...c, spare: 0, dtype: "f16", swiglu: false, bias: false } as const;
  const want = oracle(plain, rounded(x, "f32"), rounded(w, "f16"), new Float32Array());
  return { got, want, untouched };
}

describe("linearMatrix", () => {
  test("linearSplit's parts add up to the f64 oracle, and nothing else is written", async ({
    matrices: device,
  }) => {
    const agrees = fc.asyncProperty(splitCases, fc.nat(), async (c, seed) => {
      const outcome = await runSplit(device, c, seed);
      expectSums(outcome, c.inFeatures);
      expect(outcome.untouched).toBe(true);
    });
    const examples = splitEdges.map((c): [SplitCase, number] => [c, 1]);
    await fc.assert(agrees, { numRuns: runs(), examples });
  });

  // rows for linear_matrix_wide, twice, then for few tiles and for many
  for (const [tokens, outputs, inFeatures] of [
    [3, 6432, 80],
    [40, 6432, 80],
    [100, 160, 80],
    [130, 4304, 48],
  ] as const) {
    test(`f16 to f16 with swiglu, ${tokens} tokens`, async ({ matrices: device }) => {
      const capacity = tokens < 64 ? 64 : 256;
      const c = { tokens, spare: 0, outputs, inFeatures, dtype: "bf16", swiglu: true } as const;
      const [x, w] = [randomF32(capacity * inFeatures, 1), randomF32(2 * outputs * inFeatures, 2)];
      const shape = [2 * outputs, inFeatures];
      const tensor = device.upload(encode(w, "bf16"), shape, "bf16");
      const weight = { parts: [{ tensor, outOffset: 0 }], outFeatures: 2 * outputs, inFeatures };
      const sentinel = new Uint16Array(new Float16Array(capacity * outputs).fill(-7).buffer);
      const out = device.upload(sentinel, tilesShape(capacity, outputs), "f16");
      await device.run((rec) => {
        const halves = device.upload(
          tiled(x, inFeatures, tokens),
          tilesShape(capacity, inFeatures),
          "f16",
        );
        linear(rec, { x: halves, weight, out, rows: "tokens", activation: "swiglu" });
      }, liveRows(tokens));
      const tiles = new Uint16Array(await device.readBytes(out));
      const got = new Float16Array(fromTiles(tiles, capacity, outputs).buffer);
      const no = new Float32Array();
      const want = oracle({ ...c, bias: false }, rounded(x, "f32"), rounded(w, "bf16"), no);
      let worst = 0;
      for (const [i, value] of want.entries()) {
        const error = Math.abs((got[i] ?? Number.NaN) - value);
        worst = Math.max(worst, error / (Math.abs(value) + 1));
      }
      expect(worst).toBeLessThan(1e-3); // of rounding the result to f16
      expect(new Set(got.subarray(want.length))).toEqual(new Set(capacity > tokens ? [-7] : []));
    });
  }

  for (const kind of ["staged", "stream", "few", "narrow", "wide"] as const) {
    test(`the ${kind} kernel matches the f64 oracle on f16-rounded operands, and writes nothing else`, async ({
      matrices: device,
    }) => {
      const agrees = fc.asyncProperty(cases, fc.nat(), async (c, seed) => {
        const outcome = await run(device, c, seed, kind);
        expectSums(outcome, c.inFeatures);
        expect(outcome.untouched).toBe(true);
      });
      await fc.assert(agrees, {
        numRuns: runs(kind === "stream" ? 1 : 6), // its long code takes ten seconds to compile
        examples: edges.map((c): [Case, number] => [c, 1]),
      });
    });
  }

  test("linear() takes it for many tokens, with the result of the few-token kernels", async ({
    matrices: device,
  }) => {
    const [rows, inFeatures, capacity] = [192, 256, 128];
    const tensor = device.upload(
      encode(randomF32(rows * inFeatures, 5), "bf16"),
      [rows, inFeatures],
      "bf16",
    );
    const weight = { parts: [{ tensor, outOffset: 0 }], outFeatures: rows, inFeatures };
    const x = device.upload(randomF32(capacity * inFeatures, 6), [capacity, inFeatures]);
    const out = device.empty([capacity, rows]);
    const list = await device.finish(
      device.record((rec) => {
        linear(rec, { x, weight, out, rows: "tokens" });
      }),
    );
    await list.replay(liveRows(4));
    const few = (await device.read(out)).slice(0, 4 * rows);
    await list.replay(liveRows(40));
    const some = (await device.read(out)).slice(0, 4 * rows);
    await list.replay(liveRows(capacity));
    const many = (await device.read(out)).slice(0, 4 * rows);
    let worst = 0;
    for (const [i, value] of few.entries()) {
      worst = Math.max(worst, Math.abs(value - (many[i] ?? Number.NaN)));
    }
    expect(worst).toBeGreaterThan(0); // f16 operands: another kernel has run
    expect(worst).toBeLessThan(0.02);
    expect(some).not.toEqual(few); // linear_matrix_few, whose sums run over k in another order
    list.destroy();
  });
});
