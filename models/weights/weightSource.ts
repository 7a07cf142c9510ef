/**
 * Where weights come from: a checkpoint's files (checkpoint.ts) or a formula (dummy.ts). Both
 * answer the same question: rows by columns of a tensor, as packed chunks.
 */
import type { WeightDType } from "../../src/common/dtype.ts";

/** begin to end, end not included. */
export interface Range {
  readonly begin: number;
  readonly end: number;
}

export function sizeOf(range: Range): number {
  return range.end - range.begin;
}

export interface WeightInfo {
  readonly dtype: WeightDType;
  readonly shape: readonly number[];
  /** What messages name: the file, or the formula. */
  readonly origin: string;
}

/** Part of a tensor; all of it where a range is left out. A 1-D tensor [n] has n rows, no columns. */
export interface Slice {
  readonly rows?: Range;
  readonly columns?: Range;
  /**
   * Each row is followed by zeros up to a multiple of this many elements; of a 1-D tensor, the
   * whole slice is. 1 (packed) when left out.
   */
  readonly rowPaddingElements?: number;
}

/** A stretch of the packed slice, at most MAX_CHUNK_BYTES long. */
export interface Chunk {
  /** Where it begins in the packed slice, in bytes. Chunks come in order and leave no gaps. */
  readonly offset: number;
  /** The receiver may keep it. */
  readonly bytes: Uint8Array;
}

/** Uploads go in pieces of this size: enough for full speed, little enough for staging memory. */
export const MAX_CHUNK_BYTES = 4 * 1024 * 1024;

/** A stretch of the packed slice that is read when its place is there, at the same time as others. */
export interface SliceRead {
  /** Where it begins in the packed slice, in bytes. */
  readonly offset: number;
  readonly sizeBytes: number;
  /** Writes all of `into`, which is sizeBytes long and may lie in a mapped buffer. */
  readonly into: (into: Uint8Array) => Promise<void>;
}

export type OnChunk = (chunk: Chunk) => void | Promise<void>;

export interface WeightSource {
  readonly names: readonly string[];
  has(name: string): boolean;
  /** Throws WeightsError when there is no such tensor, or its dtype is none that weights have. */
  info(name: string): WeightInfo;
  /** Streams a slice in the tensor's own dtype; the next chunk waits for onChunk's promise. */
  readSlice(name: string, slice: Slice, onChunk: OnChunk): Promise<void>;
  /**
   * The same in reads of at most maxBytes that need not wait for each other; none of them has begun.
   * Left out by sources whose chunks come in order.
   */
  sliceReads?: ((name: string, slice: Slice, maxBytes: number) => Iterable<SliceRead>) | undefined;
}

/** The whole slice as one packed array; for small tensors and tests. */
export async function readPacked(
  source: WeightSource,
  name: string,
  slice: Slice = {},
): Promise<Uint8Array> {
  const chunks: Chunk[] = [];
  await source.readSlice(name, slice, (chunk) => void chunks.push(chunk));
  const last = chunks.at(-1);
  const packed = new Uint8Array(last === undefined ? 0 : last.offset + last.bytes.byteLength);
  for (const { offset, bytes } of chunks) packed.set(bytes, offset);
  return packed;
}
