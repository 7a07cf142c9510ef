/** Runs attention over a random step on the device, with guards around the output, beside the oracle. */
import { expect } from "vitest";
import type { Device, Tensor } from "../../src/device/device.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import { roundUp } from "../../src/common/math.ts";
import { fromTiles, tilesShape } from "../../src/kernels/activationTiles.ts";
import { attention, type AttentionArgs, buildPrefillTiles } from "../../src/kernels/attention.ts";
import { attentionOracle } from "../oracles/attention.ts";
import { pagedCase, type PagedShape, type StepSequence } from "./pagedCase.ts";

/** A step, its shapes, and how the kernels are chosen. */
export interface Case extends PagedShape {
  readonly sequences: readonly StepSequence[];
  readonly slidingWindow: number;
  readonly splitBlocks: number;
  readonly seed: number;
  readonly tuning: "software" | "hardware" | "matrix";
  /** Results as f16 in tiles. */
  readonly isTiled?: boolean;
}

const GUARD = 12344; // also in f16
const SPARE_ROWS = 3; // capacity past the live rows

function device32(device: Device, values: readonly number[], shape: number[]): Tensor {
  const padded = new Uint32Array(shape.reduce((a, b) => a * b, 1));
  padded.set(values);
  return device.upload(padded, shape, "u32");
}

interface GuardedOut {
  readonly tensor: Tensor;
  /** Rows of `width`, live and not, and what is past them. */
  readonly read: () => Promise<Float32Array>;
}

function guardedOut(device: Device, capacity: number, width: number, isTiled: boolean): GuardedOut {
  if (!isTiled) {
    const all = device.upload(new Float32Array(capacity * width + 64).fill(GUARD), [
      capacity * width + 64,
    ]);
    return { tensor: all.view([capacity, width]), read: async () => await device.read(all) };
  }
  const tokens = roundUp(capacity, 16);
  const guard = new Uint16Array(new Float16Array(tokens * width).fill(GUARD).buffer);
  const tensor = device.upload(guard, tilesShape(tokens, width), "f16");
  const read = async (): Promise<Float32Array> => {
    const rows = fromTiles(new Uint16Array(await device.readBytes(tensor)), tokens, width);
    return new Float32Array(new Float16Array(rows.buffer));
  };
  return { tensor, read };
}

/** The operands that the oracle multiplies. */
export interface Operands {
  readonly q: ArrayLike<number>;
  readonly keys: ArrayLike<number>;
  readonly values: ArrayLike<number>;
}

/** Runs one step; returns the live rows of `out` after checking that nothing else changed. */
export async function runStep(
  device: Device,
  c: Case,
  scale = 1 / Math.sqrt(c.headDim),
  rounded: (operands: Operands) => Operands = (operands) => operands,
): Promise<{ got: Float32Array; want: Float64Array }> {
  const { numHeads, numKvHeads, headDim, blockSize, kvDType, slidingWindow } = c;
  const step = pagedCase(c, c.sequences, c.seed);
  const numTokens = step.positions.length;
  const capacity = numTokens + SPARE_ROWS;
  const width = numHeads * headDim;
  const q = new Float32Array(capacity * width).fill(Number.NaN);
  q.set(step.q);
  const maxBlocks = Math.max(...step.blocks.map((ids) => ids.length)) + 1;
  const tables = step.blocks.flatMap((ids) => [
    ...ids,
    ...Array<number>(maxBlocks - ids.length).fill(0),
  ]);
  const cacheShape = [step.numBlocks, blockSize, numKvHeads, headDim];
  const tiles = buildPrefillTiles(step.chunks);
  const splitSize = c.splitBlocks * blockSize;
  const maxContextLength = Math.max(...step.positions) + 1;
  const numSplits = Math.ceil(maxContextLength / splitSize);
  const out = guardedOut(device, capacity, width, c.isTiled === true);
  const args: AttentionArgs = {
    q: device.upload(q, [capacity, width]),
    keyCache: device.upload(step.keyBits, cacheShape, kvDType),
    valueCache: device.upload(step.valueBits, cacheShape, kvDType),
    kvDType,
    positions: device32(device, step.positions, [capacity]),
    sequenceIndex: device32(device, step.sequenceIndex, [capacity]),
    blockTables: device32(device, tables, [step.blocks.length, maxBlocks]),
    prefillTiles: device32(device, [...tiles], [tiles.length / 4 + 1, 4]),
    out: out.tensor,
    scale,
    slidingWindow,
    numHeads,
    numKvHeads,
    headDim,
    blockSize,
    maxSplits: numSplits,
    tuning: c.tuning,
  };
  const dirty = {
    q: device.upload(q.fill(Number.NaN), [capacity, width]),
    positions: device32(device, Array<number>(capacity).fill(maxContextLength - 1), [capacity]),
    out: device.empty(out.tensor.shape, out.tensor.dtype),
  };
  await device.run(
    (rec) => {
      attention(rec, { ...args, ...dirty }); // leaves NaN in the scratch, also where a split is empty
      attention(rec, args);
    },
    liveRows(numTokens, {
      numDecodeTokens: step.numDecodeTokens,
      numPrefillTiles: tiles.length / 4,
      splitSize,
      numSplits,
      maxContextLength,
    }),
  );
  const written = await out.read();
  expect(written.subarray(numTokens * width).every((x) => x === GUARD)).toBe(true);
  const operands = rounded({ q: step.q, keys: step.keys, values: step.values });
  const want = attentionOracle({
    ...args,
    q: operands.q,
    keyCache: operands.keys,
    valueCache: operands.values,
    positions: step.positions,
    blocksOfToken: (token) => step.blocks[step.sequenceIndex[token] ?? 0] ?? [],
  });
  return { got: written.subarray(0, numTokens * width), want };
}
