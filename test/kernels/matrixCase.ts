/** Linear layers on tensor cores: their cases, and what they should give. */
import fc from "fast-check";
import { f32ToBf16 } from "../../src/common/dtype.ts";
import { toTiles } from "../../src/kernels/activationTiles.ts";
import { f32ToF16 } from "../../models/weights/float16.ts";

export type Dtype = "f32" | "f16" | "bf16";

/** One linear layer. */
export interface Case {
  readonly tokens: number;
  readonly spare: number; // capacity past the live tokens
  readonly outputs: number;
  readonly inFeatures: number; // a multiple of 16
  readonly dtype: Dtype;
  readonly swiglu: boolean;
  readonly bias: boolean;
}

export const cases: fc.Arbitrary<Case> = fc.record({
  tokens: fc.integer({ min: 1, max: 300 }),
  spare: fc.constantFrom(0, 1, 128),
  outputs: fc.integer({ min: 1, max: 300 }),
  inFeatures: fc.integer({ min: 1, max: 20 }).map((sixteens) => sixteens * 16),
  dtype: fc.constantFrom("f32", "f16", "bf16"),
  swiglu: fc.boolean(),
  bias: fc.boolean(),
});

/** Whole tiles, whose results are stored directly, and one of everything at a border. */
export const edges: Case[] = [
  {
    tokens: 256,
    spare: 0,
    outputs: 384,
    inFeatures: 512,
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
  { tokens: 129, spare: 0, outputs: 65, inFeatures: 80, dtype: "f32", swiglu: true, bias: true },
  { tokens: 128, spare: 0, outputs: 128, inFeatures: 64, dtype: "f16", swiglu: false, bias: false },
];

export function encode(values: Float32Array, dtype: Dtype): Float32Array | Uint16Array {
  if (dtype === "f32") return values;
  return Uint16Array.from(values, dtype === "f16" ? f32ToF16 : f32ToBf16);
}

/** Rows as the f16 tiles that kernels read, with NaN in those past the live ones. */
export function tiled(rows: Float32Array, features: number, numLive: number): Uint16Array {
  const halves = Uint16Array.from(rows, f32ToF16);
  return toTiles(halves.fill(0x7e00, numLive * features), features);
}

/** What the shader multiplies: activations and weights rounded to f16 (bf16 first, where stored so). */
export function rounded(values: Float32Array, dtype: Dtype): Float64Array {
  const stored = dtype === "bf16" ? values.map((v) => widenBf16(f32ToBf16(v))) : values;
  return Float64Array.from(stored, (value) => Math.f16round(value));
}

function widenBf16(bits: number): number {
  return new Float32Array(Uint32Array.of(bits << 16).buffer)[0] ?? 0;
}

/** y in f64: [tokens, outputs] */
export function oracle(c: Case, x: Float64Array, w: Float64Array, b: Float32Array): Float64Array {
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
