/** The paged KV cache of one rank: sizes, budget and tensors. */
import type { KvCacheDType, LayerKvCache } from "../../models/layers/context.ts";
import { UsageError } from "../common/errors.ts";
import { ceilDiv } from "../common/math.ts";
import type { AdapterInfo, Device } from "../device/device.ts";

/** This rank's part of the cache. */
export interface KvCacheShape {
  readonly numLayers: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly blockSize: number;
  readonly dtype: KvCacheDType;
}

const DTYPE_BYTES: Readonly<Record<KvCacheDType, number>> = { f32: 4, f16: 2 };

/** WebGPU does not tell how much memory is free, so the cache of all ranks of an adapter stays under this. */
const BUDGET_BYTES = { software: 1 << 30, hardware: 16 * (1 << 30) } as const;

/** Bytes of one block in one of a layer's two tensors. */
function blockBytes({ blockSize, numKvHeads, headDim, dtype }: KvCacheShape): number {
  return blockSize * numKvHeads * headDim * DTYPE_BYTES[dtype];
}

/** Bytes one block takes over all layers, keys and values. */
export function kvBlockBytes(shape: KvCacheShape): number {
  return 2 * shape.numLayers * blockBytes(shape);
}

/** Blocks that this rank can hold: its share of the adapter's budget, and one binding a tensor. */
export function maxKvBlocks(
  shape: KvCacheShape,
  info: AdapterInfo,
  numRanksOnDevice: number,
): number {
  const budget = info.isSoftware ? BUDGET_BYTES.software : BUDGET_BYTES.hardware;
  const byBudget = Math.floor(budget / numRanksOnDevice / kvBlockBytes(shape));
  const byBinding = Math.floor(info.limits.maxStorageBufferBindingSize / blockBytes(shape));
  return Math.min(byBudget, byBinding);
}

/** What the cache should hold if memory allows: every sequence slot at full length. */
export interface KvDemand {
  readonly maxModelLen: number;
  readonly maxNumSeqs: number;
  readonly blockSize: number;
}

/**
 * Blocks that every rank allocates: the demand, or the least that any rank can hold. Throws a
 * UsageError with the arithmetic when not even one sequence of maxModelLen fits.
 */
export function chooseNumBlocks(demand: KvDemand, maxBlocksOfRanks: readonly number[]): number {
  const blocksPerSequence = ceilDiv(demand.maxModelLen, demand.blockSize);
  const available = Math.min(...maxBlocksOfRanks);
  if (available < blocksPerSequence) {
    throw new UsageError({
      what: "KV cache",
      expected: `${blocksPerSequence} blocks of ${demand.blockSize} tokens for a sequence of maxModelLen ${demand.maxModelLen}`,
      got: `room for ${available} on the tightest rank`,
      remedy: `use --max-model-len ${Math.max(demand.blockSize, available * demand.blockSize)} or less, more ranks, or --kv-cache-dtype f16`,
    });
  }
  return Math.min(available, blocksPerSequence * demand.maxNumSeqs);
}

/** Allocates keys and values of every layer of this rank. f16 is packed two to a u32. */
export function createKvCache(
  device: Device,
  shape: KvCacheShape,
  numBlocks: number,
): LayerKvCache[] {
  const { numLayers, blockSize, numKvHeads, headDim, dtype } = shape;
  const tensor = (label: string): LayerKvCache["key"] =>
    device.empty([numBlocks, blockSize, numKvHeads, headDim], dtype, label);
  return Array.from({ length: numLayers }, (_, layer) => ({
    key: tensor(`layer ${layer} keys`),
    value: tensor(`layer ${layer} values`),
  }));
}
