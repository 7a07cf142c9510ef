/** Inputs and oracle of kernels that rotate q and k and write the paged KV cache. */
import { inverseFrequencies, type RopeParameters } from "../../src/kernels/rope.ts";
import { rmsNormOracle } from "../oracles/rmsNorm.ts";
import { rotateHead } from "../oracles/rope.ts";
import { randomF32 } from "../support/gpu.ts";

export interface RopeCase {
  readonly numTokens: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly kvDType: "f32" | "f16";
  readonly hasNorm: boolean;
  readonly seed: number;
}

export const rope: RopeParameters = { type: "default", theta: 10_000 };
export const [eps, maxPositions, blockSize, numBlocks] = [1e-6, 300, 4, 10];
export const numSlots = blockSize * numBlocks;
export const spareRows = 2;
export const GUARD = 2048; // exact in f16

export interface RopeOutcome {
  readonly q: Float32Array; // [numTokens + spareRows, numHeads * headDim]
  readonly keys: Float32Array; // [numSlots, numKvHeads * headDim]
  readonly values: Float32Array;
}

export interface RopeInputs {
  readonly qkv: Float32Array<ArrayBuffer>;
  readonly qNorm: Float32Array<ArrayBuffer>;
  readonly kNorm: Float32Array<ArrayBuffer>;
  readonly positions: readonly number[];
  readonly slots: readonly number[];
}

export function makeInputs({
  numTokens,
  numHeads,
  numKvHeads,
  headDim,
  seed,
}: RopeCase): RopeInputs {
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

export function wantRope(
  c: RopeCase,
  { qkv, qNorm, kNorm, positions, slots }: RopeInputs,
): RopeOutcome {
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

export const exact = { rtol: 1e-5, atol: 2e-6 };
export const halves = { rtol: 1e-3, atol: 1e-4 }; // half an ulp of f16 is 4.9e-4
