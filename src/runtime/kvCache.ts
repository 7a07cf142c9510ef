/** The paged KV cache of one rank: sizes and tensors; kvBudget.ts says how much of it. */
import type { KvCacheDType, LayerKvCache } from "../../models/layers/context.ts";
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

/** Bytes of one block in one of a layer's two tensors. */
function blockBytes({ blockSize, numKvHeads, headDim, dtype }: KvCacheShape): number {
  return blockSize * numKvHeads * headDim * DTYPE_BYTES[dtype];
}

/** Bytes one block takes over all layers, keys and values. */
export function kvBlockBytes(shape: KvCacheShape): number {
  return 2 * shape.numLayers * blockBytes(shape);
}

/** Blocks that one binding can hold; each layer's keys are one tensor, its values another. */
export function maxBindingBlocks(shape: KvCacheShape, info: AdapterInfo): number {
  return Math.floor(info.limits.maxStorageBufferBindingSize / blockBytes(shape));
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
