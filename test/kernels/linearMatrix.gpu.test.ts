import fc from "fast-check";
import { describe, expect } from "vitest";
import { f32ToBf16 } from "../../src/common/dtype.ts";
import type { Device, Tensor } from "../../src/device/device.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import { linear } from "../../src/kernels/linear.ts";
import {
  hasMatrixKernel,
  linearMatrix,
  linearSplit,
  type MatrixKind,
  MIN_MATRIX_OUT_BYTES,
} from "../../src/kernels/linearMatrix.ts";
import { f32ToF16 } from "../../models/weights/float16.ts";
import { randomF32, test } from "../support/gpu.ts";

type Dtype = "f32" | "f16" | "bf16";

interface Case {
  readonly tokens: number;
  readonly spare: number; // capacity past the live tokens
  readonly outputs: number;
  readonly inFeatures: number; // a multiple of 8
  readonly dtype: Dtype;
  readonly swiglu: boolean;
  readonly bias: boolean;
}

const cases: fc.Arbitrary<Case> = fc.record({
  tokens: fc.integer({ min: 1, max: 300 }),
  spare: fc.constantFrom(0, 1, 128),
  outputs: fc.integer({ min: 1, max: 300 }),
  inFeatures: fc.integer({ min: 1, max: 40 }).map((eights) => eights * 8),
  dtype: fc.constantFrom("f32", "f16", "bf16"),
  swiglu: fc.boolean(),
  bias: fc.boolean(),
});

/** Whole tiles, whose results are stored directly, and one of everything at a border. */
const edges: Case[] = [
  { tokens: 128, spare: 0, outputs: 128, inFeatures: 64, dtype: "f16", swiglu: false, bias: false },
  {
    tokens: 256,
    spare: 0,
    outputs: 384,
    inFeatures: 2048,
    dtype: "bf16",
    swiglu: false,
    bias: false,
  },
  {
    tokens: 200,
    spare: 56,
    outputs: 256,
    inFeatures: 320,
    dtype: "bf16",
    swiglu: true,
    bias: false,
  },
  { tokens: 129, spare: 0, outputs: 65, inFeatures: 72, dtype: "f32", swiglu: true, bias: true },
];

function encode(values: Float32Array, dtype: Dtype): Float32Array | Uint16Array {
  if (dtype === "f32") return values;
  return Uint16Array.from(values, dtype === "f16" ? f32ToF16 : f32ToBf16);
}

/** What the shader multiplies: activations and weights rounded to f16 (bf16 first, where stored so). */
function rounded(values: Float32Array, dtype: Dtype): Float64Array {
  const stored = dtype === "bf16" ? values.map((v) => widenBf16(f32ToBf16(v))) : values;
  return Float64Array.from(stored, (value) => Math.f16round(value));
}

function widenBf16(bits: number): number {
  return new Float32Array(Uint32Array.of(bits << 16).buffer)[0] ?? 0;
}

function oracle(c: Case, x: Float64Array, w: Float64Array, b: Float32Array): Float64Array {
  const dot = (t: number, row: number): number => {
    let sum = c.bias ? (b[row] ?? 0) : 0;
    for (let k = 0; k < c.inFeatures; k++) {
      sum += (x[t * c.inFeatures + k] ?? 0) * (w[row * c.inFeatures + k] ?? 0);
    }
    return sum;
  };
  return Float64Array.from({ length: c.tokens * c.outputs }, (_, i) => {
    const [t, n] = [Math.floor(i / c.outputs), i % c.outputs];
    const sum = dot(t, n);
    return c.swiglu ? (sum / (1 + Math.exp(-sum))) * dot(t, c.outputs + n) : sum;
  });
}

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
}

const splitCases: fc.Arbitrary<SplitCase> = fc.record({
  tokens: fc.integer({ min: 1, max: 64 }),
  outputs: fc.integer({ min: 8, max: 300 }),
  inFeatures: fc.integer({ min: 1, max: 100 }).map((eights) => eights * 8),
  splits: fc.constantFrom(1, 2, 4, 8),
});

/** The sum over the parts; the rows past the live ones of each part stay as they were. */
async function runSplit(device: Device, c: SplitCase, seed: number): Promise<Outcome> {
  const { tokens, outputs, inFeatures, splits } = c;
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
    const halves = device.upload(encode(x, "f16"), [capacity, inFeatures], "f16");
    linearSplit(rec, { x: halves, weight, out, rows: "tokens" }, splits);
  }, liveRows(tokens));
  const all = await device.read(out);
  const got = new Float32Array(tokens * outputs);
  let untouched = true;
  for (const [i, value] of all.entries()) {
    const inPart = i % (capacity * outputs);
    if (inPart < got.length) got[inPart] = (got[inPart] ?? 0) + value;
    else untouched &&= value === -7;
  }
  device.free(tensor);
  device.free(out);
  const plain = { ...c, spare: 0, dtype: "f16", swiglu: false, bias: false } as const;
  const want = oracle(plain, rounded(x, "f32"), rounded(w, "f16"), new Float32Array());
  return { got, want, untouched };
}

describe("linearMatrix", () => {
  test("linearSplit's parts add up to the f64 oracle, and nothing else is written", async ({
    device,
    skip,
  }) => {
    if (!hasMatrixKernel(device.info)) skip(`${device.info.name} has no f16 subgroup matrices`);
    const agrees = fc.asyncProperty(splitCases, fc.nat(), async (c, seed) => {
      const outcome = await runSplit(device, c, seed);
      expectSums(outcome, c.inFeatures);
      expect(outcome.untouched).toBe(true);
    });
    await fc.assert(agrees, { numRuns: 40 });
  });

  for (const tokens of [3, 40, 130]) {
    test(`f16 to f16 with swiglu, ${tokens} tokens, rows for the wide tiles`, async ({
      device,
      skip,
    }) => {
      if (!hasMatrixKernel(device.info)) skip(`${device.info.name} has no f16 subgroup matrices`);
      const [outputs, inFeatures, capacity] = [6424, 72, tokens < 64 ? 64 : 256];
      const c = { tokens, spare: 0, outputs, inFeatures, dtype: "bf16", swiglu: true } as const;
      const [x, w] = [randomF32(capacity * inFeatures, 1), randomF32(2 * outputs * inFeatures, 2)];
      const shape = [2 * outputs, inFeatures];
      const tensor = device.upload(encode(w, "bf16"), shape, "bf16");
      const weight = { parts: [{ tensor, outOffset: 0 }], outFeatures: 2 * outputs, inFeatures };
      const sentinel = new Uint16Array(new Float16Array(capacity * outputs).fill(-7).buffer);
      const out = device.upload(sentinel, [capacity, outputs], "f16");
      await device.run((rec) => {
        const halves = device.upload(encode(x, "f16"), [capacity, inFeatures], "f16");
        linear(rec, { x: halves, weight, out, rows: "tokens", activation: "swiglu" });
      }, liveRows(tokens));
      const got = new Float16Array(await device.readBytes(out));
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

  for (const kind of ["many", "few"] as const) {
    test(`for ${kind} tokens matches the f64 oracle on f16-rounded operands, and writes nothing else`, async ({
      device,
      skip,
    }) => {
      if (!hasMatrixKernel(device.info)) skip(`${device.info.name} has no f16 subgroup matrices`);
      const agrees = fc.asyncProperty(cases, fc.nat(), async (c, seed) => {
        const outcome = await run(device, c, seed, kind);
        expectSums(outcome, c.inFeatures);
        expect(outcome.untouched).toBe(true);
      });
      await fc.assert(agrees, {
        numRuns: 40,
        examples: edges.map((c): [Case, number] => [c, 1]),
      });
    });
  }

  test("linear() takes it for many tokens, with the result of the few-token kernels", async ({
    device,
    skip,
  }) => {
    if (!hasMatrixKernel(device.info)) skip(`${device.info.name} has no f16 subgroup matrices`);
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
