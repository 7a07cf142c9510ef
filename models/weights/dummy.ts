/**
 * Dummy weights: pseudo-random numbers from a tensor's name and an element's place in the whole
 * tensor, so that every layout holds the same model. Zeros would flatter timings and gut verify.
 *
 * Formula, all in u32 with wrap-around; a kernel can compute it as well:
 *
 *   mix(x):   x ^= x >> 16;  x *= 0x85ebca6b;  x ^= x >> 13;  x *= 0xc2b2ae35;  x ^= x >> 16
 *   seed    = fnv1a32(UTF-8 bytes of the Hugging Face name)
 *   rowHash = mix(seed + row * 0x9e3779b9)         row: of the whole tensor; 0 for a 1-D tensor
 *   hash    = mix(rowHash ^ (column / 4) * 0x9e3779b1)      column / 4 rounded down; of a 1-D
 *                                                           tensor, column is the element
 *   byte    = (hash >> 8 * (column % 4)) & 255
 *   value   = (2 * byte - 255) / 256 * scale                scale: a power of two, dummyScale()
 *   value   = 1 + (floor(byte / 8) - 16) / 128              for norm weights: 0.875 to 1.1171875
 *
 * Every value has at most 8 significant bits and a power-of-two scale of at least 2^-16: it is
 * exact in f32, f16 and bf16 alike. So no dtype rounds, and models of all dtypes are the same one.
 */
import { bytesOf, f32ToBf16, type WeightDType } from "../../src/common/dtype.ts";
import { WeightsError } from "../../src/common/errors.ts";
import type { ModelConfig } from "../config.ts";
import { f32ToF16 } from "./float16.ts";
import { type Block, blocksOf, resolveSlice } from "./slice.ts";
import { expectedTensors } from "./tensors.ts";
import { type OnChunk, type Slice, sizeOf } from "./weightSource.ts";
import type { WeightInfo, WeightSource } from "./weightSource.ts";

const ROW_STEP = 0x9e3779b9;
const COLUMN_STEP = 0x9e3779b1; // odd, so distinct columns stay distinct
const BIAS_SCALE = 1 / 16;
const MIN_SCALE = 2 ** -16; // at which the least value is the least subnormal half, 2^-24

/** What a weight's name and shape make of a byte. */
export type DummyKind = "norm" | "linear" | "bias" | "embedding";

/** `*norm.weight`, `*.bias`, `*embed_tokens.weight`; all else is linear. */
export function dummyKind(name: string): DummyKind {
  if (name.endsWith(".bias")) return "bias";
  if (name.endsWith("norm.weight")) return "norm";
  return name.endsWith("embed_tokens.weight") ? "embedding" : "linear";
}

/**
 * The scale of the formula: 1 for embeddings, 1/16 for biases, and for linear weights the power of
 * two nearest to sqrt(3 / inFeatures), which keeps an output's variance near its input's. Norm
 * weights have none; 1 stands for it.
 */
export function dummyScale(name: string, shape: readonly number[]): number {
  switch (dummyKind(name)) {
    case "norm":
    case "embedding":
      return 1;
    case "bias":
      return BIAS_SCALE;
    case "linear": {
      const inFeatures = shape.at(-1) ?? 1;
      return Math.max(MIN_SCALE, 2 ** Math.round(Math.log2(3 / inFeatures) / 2));
    }
  }
}

/** FNV-1a, 32 bits, of the name's UTF-8 bytes: the formula's seed. */
export function fnv1a32(name: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

function mix(x: number): number {
  let mixed = x ^ (x >>> 16);
  mixed = Math.imul(mixed, 0x85ebca6b);
  mixed ^= mixed >>> 13;
  mixed = Math.imul(mixed, 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}

/** The four bytes of columns 4 * quad to 4 * quad + 3, the first lowest. */
function quadHash(rowHash: number, quad: number): number {
  return mix(rowHash ^ Math.imul(quad, COLUMN_STEP));
}

/** The number that a byte stands for. */
function valueOfByte(kind: DummyKind, scale: number, byte: number): number {
  if (kind === "norm") return 1 + ((byte >>> 3) - 16) / 128;
  return ((2 * byte - 255) / 256) * scale;
}

/** One element, by the formula. `row` is 0 for a 1-D tensor. */
export function dummyValue(
  name: string,
  shape: readonly number[],
  row: number,
  column: number,
): number {
  const rowHash = mix(fnv1a32(name) + Math.imul(row, ROW_STEP));
  const byte = (quadHash(rowHash, column >>> 2) >>> (8 * (column & 3))) & 255;
  return valueOfByte(dummyKind(name), dummyScale(name, shape), byte);
}

/** The stored bits of each of the 256 values. */
function valueTable(name: string, shape: readonly number[], dtype: WeightDType): DummyArray {
  const kind = dummyKind(name);
  const scale = dummyScale(name, shape);
  const values = Array.from({ length: 256 }, (_, byte) => valueOfByte(kind, scale, byte));
  if (dtype === "f32") return Float32Array.from(values);
  return Uint16Array.from(values, dtype === "f16" ? f32ToF16 : f32ToBf16);
}

type DummyArray = Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>;

/** A source that has every tensor the config calls for, at no cost of disk. */
export class DummyWeights implements WeightSource {
  readonly names: readonly string[];
  readonly #dtype: WeightDType;
  readonly #shapes: ReadonlyMap<string, readonly number[]>;

  constructor(config: ModelConfig, dtype: WeightDType) {
    this.#dtype = dtype;
    this.#shapes = new Map(expectedTensors(config).map(({ name, shape }) => [name, shape]));
    this.names = [...this.#shapes.keys()];
  }

  has(name: string): boolean {
    return this.#shapes.has(name);
  }

  info(name: string): WeightInfo {
    const shape = this.#shapes.get(name);
    if (shape !== undefined) return { dtype: this.#dtype, shape, origin: "dummy weights" };
    throw new WeightsError({ what: name, expected: "a tensor of the model", got: "none such" });
  }

  async readSlice(name: string, slice: Slice, onChunk: OnChunk): Promise<void> {
    const { shape } = this.info(name);
    const table = valueTable(name, shape, this.#dtype);
    const seed = fnv1a32(name);
    for (const block of blocksOf(resolveSlice(name, shape, slice, bytesOf(this.#dtype)))) {
      const { buffer } = fillBlock(seed, block, table);
      await onChunk({ offset: block.offset, bytes: new Uint8Array(buffer) });
    }
  }
}

function fillBlock(seed: number, block: Block, table: DummyArray): DummyArray {
  const numElements = sizeOf(block.rows) * block.packedColumns;
  const packed =
    table instanceof Float32Array ? new Float32Array(numElements) : new Uint16Array(numElements);
  const { begin, end } = block.columns;
  for (let row = 0; row < sizeOf(block.rows); row += 1) {
    const rowHash = mix(seed + Math.imul(block.rows.begin + row, ROW_STEP));
    let at = row * block.packedColumns;
    for (let column = begin; column < end;) {
      let hash = quadHash(rowHash, column >>> 2) >>> (8 * (column & 3));
      const quadEnd = Math.min(end, (column | 3) + 1);
      for (; column < quadEnd; column += 1) {
        packed[at] = table[hash & 255] ?? 0;
        at += 1;
        hash >>>= 8;
      }
    }
  }
  return packed;
}
