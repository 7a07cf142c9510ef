/** A random step over a paged cache: sequences in shuffled blocks, decode rows first, then chunks. */
import { randomF32 } from "../support/gpu.ts";

/** A sequence in a step: tokens that the cache holds from before, and tokens of this step. */
export interface StepSequence {
  readonly numCached: number;
  readonly numTokens: number;
}

export interface PagedShape {
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly blockSize: number;
  readonly kvDType: "f32" | "f16";
}

export interface PagedCase {
  readonly q: Float32Array<ArrayBuffer>; // [numTokens, numHeads, headDim]
  /** The caches as the device holds them, and the same values widened. Slots of no sequence are NaN. */
  readonly keyBits: Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>;
  readonly valueBits: Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>;
  readonly keys: Float32Array;
  readonly values: Float32Array;
  readonly numBlocks: number;
  readonly positions: readonly number[];
  readonly sequenceIndex: readonly number[];
  /** By row of the block tables; rows are in another order than the sequences. */
  readonly blocks: readonly (readonly number[])[];
  readonly numDecodeTokens: number;
  readonly chunks: readonly { row: number; firstTokenRow: number; numTokens: number }[];
}

export function pagedCase(
  shape: PagedShape,
  sequences: readonly StepSequence[],
  seed: number,
): PagedCase {
  const ordered = [...sequences].sort((a, b) => Number(a.numTokens > 1) - Number(b.numTokens > 1));
  const numBlocksOf = ordered.map((s) => Math.ceil((s.numCached + s.numTokens) / shape.blockSize));
  const numBlocks = numBlocksOf.reduce((a, b) => a + b, 0) + 2; // two belong to nobody
  const shuffled = shuffle(numBlocks, seed);
  const rowOf = shuffle(ordered.length, seed + 1);
  const blocks: number[][] = [];
  const [positions, sequenceIndex]: [number[], number[]] = [[], []];
  const chunks: { row: number; firstTokenRow: number; numTokens: number }[] = [];
  ordered.forEach(({ numCached, numTokens }, i) => {
    const row = rowOf[i] ?? 0;
    blocks[row] = shuffled.splice(0, numBlocksOf[i] ?? 0);
    if (numTokens > 1) chunks.push({ row, firstTokenRow: positions.length, numTokens });
    for (let j = 0; j < numTokens; j++) {
      positions.push(numCached + j);
      sequenceIndex.push(row);
    }
  });
  const lengths = rowOf.map((_, row) => {
    const sequence = ordered[rowOf.indexOf(row)];
    return (sequence?.numCached ?? 0) + (sequence?.numTokens ?? 0);
  });
  const cache = (salt: number): Cache => fillCache(shape, numBlocks, blocks, lengths, seed + salt);
  const [key, value] = [cache(2), cache(3)];
  return {
    q: randomF32(positions.length * shape.numHeads * shape.headDim, seed + 4).map((x) => 3 * x),
    keyBits: key.bits,
    valueBits: value.bits,
    keys: key.wide,
    values: value.wide,
    numBlocks,
    positions,
    sequenceIndex,
    blocks,
    numDecodeTokens: ordered.filter(({ numTokens }) => numTokens === 1).length,
    chunks,
  };
}

interface Cache {
  readonly bits: Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>;
  readonly wide: Float32Array;
}

/** NaN everywhere but in the slots of a sequence's own positions: a stray read shows in the output. */
function fillCache(
  { blockSize, numKvHeads, headDim, kvDType }: PagedShape,
  numBlocks: number,
  blocks: readonly (readonly number[])[],
  lengths: readonly number[],
  seed: number,
): Cache {
  const rowSize = numKvHeads * headDim;
  const cache = new Float32Array(numBlocks * blockSize * rowSize).fill(Number.NaN);
  const random = randomF32(cache.length, seed);
  blocks.forEach((ids, row) => {
    for (let position = 0; position < (lengths[row] ?? 0); position++) {
      const slot =
        (ids[Math.floor(position / blockSize)] ?? 0) * blockSize + (position % blockSize);
      const at = slot * rowSize;
      cache.set(random.subarray(at, at + rowSize), at);
    }
  });
  if (kvDType === "f32") return { bits: cache, wide: cache };
  const halves = new Float16Array(cache);
  return { bits: new Uint16Array(halves.buffer), wide: Float32Array.from(halves) };
}

/** 0 to length - 1 in an order that the seed gives. */
function shuffle(length: number, seed: number): number[] {
  const keys = randomF32(length, seed);
  return Array.from({ length }, (_, i) => i).sort((a, b) => (keys[a] ?? 0) - (keys[b] ?? 0));
}
