import fc from "fast-check";
import { describe, expect } from "vitest";
import { f32ToBf16 } from "../../src/common/dtype.ts";
import type { Device, Tensor } from "../../src/device/device.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import { linear } from "../../src/kernels/linear.ts";
import {
  hasMatrixKernel,
  linearMatrix,
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

describe("linearMatrix", () => {
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
