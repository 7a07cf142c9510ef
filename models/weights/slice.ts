/**
 * Which bytes of a row-major tensor make up a slice, and in which reads and chunks they come: pure
 * arithmetic, shared by the file reader and the dummy weights.
 */
import { roundUp } from "../../src/common/math.ts";
import { WeightsError } from "../../src/common/errors.ts";
import { MAX_CHUNK_BYTES, type Range, sizeOf, type Slice } from "./weightSource.ts";

/** Ranges closer than this are read as one: a disk reads 64 KiB in the time of a second request. */
export const COALESCE_BYTES = 64 * 1024;

/** A slice resolved against a tensor's shape. A 1-D tensor [n] is one row of n elements. */
export interface SliceGeometry {
  /** Elements in a row of the tensor. */
  readonly rowElements: number;
  readonly rows: Range;
  readonly columns: Range;
  /** Elements that a row of the packed slice takes, zeros at its end included. */
  readonly packedRowElements: number;
  readonly bytesPerElement: number;
}

/** Rows by columns that fill one chunk. */
export interface Block {
  readonly rows: Range;
  readonly columns: Range;
  /** Elements that a row of the block takes in the chunk. */
  readonly packedColumns: number;
  /** The chunk's first byte in the packed slice. */
  readonly offset: number;
}

/** Checks the ranges; a wrong one is a bug of the plan or a checkpoint of other sizes. */
export function resolveSlice(
  name: string,
  shape: readonly number[],
  slice: Slice,
  bytesPerElement: number,
): SliceGeometry {
  const [numRows = 1, rowElements = 1, ...rest] = shape;
  if (rest.length > 0 || shape.length === 0) {
    throw new WeightsError({
      what: name,
      expected: "a tensor of one or two dimensions",
      got: `[${shape.join(", ")}]`,
    });
  }
  const rows = checkRange(name, "rows", slice.rows, numRows);
  const columns = checkRange(name, "columns", slice.columns, rowElements);
  const isVector = shape.length === 1;
  const geometry = isVector
    ? { rowElements: numRows, rows: { begin: 0, end: 1 }, columns: rows }
    : { rowElements, rows, columns };
  const padding = slice.rowPaddingElements ?? 1;
  const packedRowElements = roundUp(sizeOf(geometry.columns), padding);
  return { ...geometry, packedRowElements, bytesPerElement };
}

function checkRange(name: string, axis: string, range: Range | undefined, size: number): Range {
  const { begin, end } = range ?? { begin: 0, end: size };
  if (begin < 0 || begin > end || end > size) {
    throw new WeightsError({
      what: `${name}: ${axis}`,
      expected: `a range within 0 to ${size}`,
      got: `${begin} to ${end}`,
    });
  }
  return { begin, end };
}

/**
 * Cuts a slice into blocks in packed order, each at most maxBytes both packed and as read from
 * the file (where gaps are read along). A row longer than that is cut at multiples of 8 elements.
 */
export function* blocksOf(
  geometry: SliceGeometry,
  maxBytes: number = MAX_CHUNK_BYTES,
): Generator<Block> {
  const { rows, columns, packedRowElements, rowElements, bytesPerElement } = geometry;
  if (sizeOf(rows) === 0 || sizeOf(columns) === 0) return;
  const packedRowBytes = packedRowElements * bytesPerElement;
  if (packedRowBytes > maxBytes) {
    yield* piecesOfRows(geometry, maxBytes);
    return;
  }
  const gapBytes = (rowElements - sizeOf(columns)) * bytesPerElement;
  const readRowBytes = gapBytes < COALESCE_BYTES ? rowElements * bytesPerElement : 0;
  const rowsPerBlock = Math.max(1, Math.floor(maxBytes / Math.max(packedRowBytes, readRowBytes)));
  for (let begin = rows.begin; begin < rows.end; begin += rowsPerBlock) {
    const block = { begin, end: Math.min(begin + rowsPerBlock, rows.end) };
    const offset = (begin - rows.begin) * packedRowBytes;
    yield { rows: block, columns, packedColumns: packedRowElements, offset };
  }
}

function* piecesOfRows(geometry: SliceGeometry, maxBytes: number): Generator<Block> {
  const { rows, columns, packedRowElements, bytesPerElement } = geometry;
  const piece = Math.max(8, Math.floor(maxBytes / bytesPerElement / 8) * 8);
  for (let row = rows.begin; row < rows.end; row += 1) {
    const rowOffset = (row - rows.begin) * packedRowElements;
    for (let done = 0; done < packedRowElements; done += piece) {
      const begin = Math.min(columns.begin + done, columns.end);
      yield {
        rows: { begin: row, end: row + 1 },
        columns: { begin, end: Math.min(begin + piece, columns.end) },
        packedColumns: Math.min(piece, packedRowElements - done),
        offset: (rowOffset + done) * bytesPerElement,
      };
    }
  }
}

/** Byte ranges of the tensor that hold a block: one where gaps are small, else one a row. */
export function readsOf(geometry: SliceGeometry, block: Block): readonly Range[] {
  const { rowElements, bytesPerElement } = geometry;
  const gapBytes = (rowElements - sizeOf(block.columns)) * bytesPerElement;
  const at = (row: number, column: number): number =>
    (row * rowElements + column) * bytesPerElement;
  const { rows, columns } = block;
  if (gapBytes < COALESCE_BYTES) {
    return [{ begin: at(rows.begin, columns.begin), end: at(rows.end - 1, columns.end) }];
  }
  return Array.from({ length: sizeOf(rows) }, (_, i) => ({
    begin: at(rows.begin + i, columns.begin),
    end: at(rows.begin + i, columns.end),
  }));
}

/** True where a block is one stretch of the file, and packed as it is there. */
export function isContiguous({ rowElements }: SliceGeometry, block: Block): boolean {
  const hasGaps = sizeOf(block.rows) > 1 && sizeOf(block.columns) < rowElements;
  return !hasGaps && sizeOf(block.columns) === block.packedColumns;
}

/** Copies a block's rows out of what was read; zeros fill the padding. */
export function packBlock(
  geometry: SliceGeometry,
  block: Block,
  reads: readonly Uint8Array[],
): Uint8Array {
  const { rowElements, bytesPerElement } = geometry;
  const rowBytes = sizeOf(block.columns) * bytesPerElement;
  const packedRowBytes = block.packedColumns * bytesPerElement;
  const [only] = reads;
  if (only !== undefined && isContiguous(geometry, block)) return only;
  const packed = new Uint8Array(sizeOf(block.rows) * packedRowBytes);
  for (let row = 0; row < sizeOf(block.rows); row += 1) {
    const from = reads.length === 1 ? row * rowElements * bytesPerElement : 0;
    const source = reads[reads.length === 1 ? 0 : row];
    if (source !== undefined)
      packed.set(source.subarray(from, from + rowBytes), row * packedRowBytes);
  }
  return packed;
}
