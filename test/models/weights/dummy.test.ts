import fc from "fast-check";
import { expect, test } from "vitest";
import { bf16ToF32 } from "../../../src/common/dtype.ts";
import { builtinConfig } from "../../../models/config/builtin.ts";
import {
  dummyKind,
  dummyScale,
  dummyValue,
  DummyWeights,
  fnv1a32,
} from "../../../models/weights/dummy.ts";
import { f16ToF32 } from "../../../models/weights/float16.ts";
import { checkTensors } from "../../../models/weights/tensors.ts";
import { readPacked } from "../../../models/weights/weightSource.ts";

const config = builtinConfig("Qwen3-0.6B");
const name = "model.layers.1.mlp.down_proj.weight"; // [1024, 3072]
const norm = "model.norm.weight";

/** The documented formula, written anew with BigInt. */
function oracle(tensor: string, row: bigint, column: bigint): number {
  const u32 = (x: bigint): bigint => BigInt.asUintN(32, x);
  const mix = (x: bigint): bigint => {
    const y = u32((u32(x) ^ (u32(x) >> 16n)) * 0x85ebca6bn);
    const z = u32((y ^ (y >> 13n)) * 0xc2b2ae35n);
    return z ^ (z >> 16n);
  };
  let seed = 0x811c9dc5n;
  for (const char of tensor) seed = u32((seed ^ BigInt(char.charCodeAt(0))) * 0x01000193n);
  const rowHash = mix(seed + row * 0x9e3779b9n);
  const hash = mix(rowHash ^ u32((column / 4n) * 0x9e3779b1n));
  return Number((hash >> (8n * (column % 4n))) & 255n);
}

test("values follow the documented formula, far rows and columns included", () => {
  const index = fc.integer({ min: 0, max: 2 ** 32 - 1 });
  fc.assert(
    fc.property(index, index, (row, column) => {
      const byte = oracle(name, BigInt(row), BigInt(column));
      const expected = ((2 * byte - 255) / 256) * 2 ** -5; // sqrt(3 / 3072) = 2^-5
      expect(dummyValue(name, [1024, 3072], row, column)).toBe(expected);
      const normByte = oracle(norm, 0n, BigInt(column));
      expect(dummyValue(norm, [1024], 0, column)).toBe(1 + (Math.floor(normByte / 8) - 16) / 128);
    }),
  );
});

test("fnv1a32 has the published values", () => {
  expect(fnv1a32("")).toBe(0x811c9dc5);
  expect(fnv1a32("foobar")).toBe(0xbf9cf968);
});

test("each kind of weight has its scale", () => {
  expect(dummyKind("model.layers.0.self_attn.q_norm.weight")).toBe("norm");
  expect(dummyKind("model.layers.0.post_attention_layernorm.weight")).toBe("norm");
  expect(dummyScale("model.layers.0.self_attn.q_proj.bias", [64])).toBe(1 / 16);
  expect(dummyScale("model.embed_tokens.weight", [100, 64])).toBe(1);
  expect(dummyScale("lm_head.weight", [100, 64])).toBe(1 / 4); // sqrt(3 / 64) = 0.217
  expect(dummyScale("lm_head.weight", [100, 2 ** 40])).toBe(2 ** -16);
});

const slices = fc.record({
  begin: fc.nat(40),
  length: fc.integer({ min: 1, max: 20 }),
  column: fc.nat(60),
  width: fc.integer({ min: 1, max: 30 }),
  rowPaddingElements: fc.constantFrom(1, 8),
});

test("a slice holds the whole tensor's values, the same in every dtype", async () => {
  const widen = {
    f32: (bytes: Uint8Array) => [...new Float32Array(bytes.buffer)],
    f16: (bytes: Uint8Array) => [...new Uint16Array(bytes.buffer)].map(f16ToF32),
    bf16: (bytes: Uint8Array) => [...new Uint16Array(bytes.buffer)].map(bf16ToF32),
  };
  const agrees = fc.asyncProperty(slices, async ({ begin, length, column, width, ...padding }) => {
    const rows = { begin, end: begin + length };
    const slice = { rows, columns: { begin: column, end: column + width }, ...padding };
    const expected: number[] = [];
    for (let row = rows.begin; row < rows.end; row += 1) {
      for (let i = 0; i < width; i += 1) {
        expected.push(dummyValue(name, [1024, 3072], row, column + i));
      }
      while (expected.length % padding.rowPaddingElements !== 0) expected.push(0);
    }
    for (const dtype of ["f32", "f16", "bf16"] as const) {
      const packed = await readPacked(new DummyWeights(config, dtype), name, slice);
      expect(widen[dtype](packed)).toEqual(expected);
    }
  });
  await fc.assert(agrees, { numRuns: 30 });
});

test("values are centred, spread evenly, and no two rows or tensors are alike", async () => {
  const source = new DummyWeights(config, "f32");
  const read = async (tensor: string, row: number): Promise<Float32Array> => {
    const rows = { begin: row, end: row + 1 };
    return new Float32Array((await readPacked(source, tensor, { rows })).buffer);
  };
  const row = await read(name, 5);
  const mean = row.reduce((a, b) => a + b, 0) / row.length;
  const variance = row.reduce((a, b) => a + b * b, 0) / row.length;
  expect(Math.abs(mean)).toBeLessThan(2 ** -5 * 0.05);
  expect(variance).toBeCloseTo(2 ** -10 / 3, 4);
  const correlation = (other: Float32Array): number =>
    row.reduce((sum, x, i) => sum + x * (other[i] ?? 0), 0) / row.length / variance;
  expect(Math.abs(correlation(await read(name, 6)))).toBeLessThan(0.1);
  const elsewhere = await read(name.replace(".1.", ".2."), 5);
  expect(Math.abs(correlation(elsewhere))).toBeLessThan(0.1);
});

test("dummy weights are every tensor that the config calls for", () => {
  const source = new DummyWeights(config, "bf16");
  checkTensors(config, source);
  expect(source.has("lm_head.weight")).toBe(false); // tied
  expect(() => source.info("x")).toThrow("x: expected a tensor of the model");
});
