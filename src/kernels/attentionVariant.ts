/** How attention is cut into workgroups: pure functions of shapes and the adapter. */
import { ceilDiv, roundUp } from "../common/math.ts";
import type { AdapterInfo } from "../device/device.ts";

/** What the choice depends on. */
export type AttentionAdapter = Pick<AdapterInfo, "isSoftware" | "subgroupMaxSize">;

/** Query tokens of one prefill tile. */
export const TILE_Q = 16;

/** Partials (rows of tokens x splits) that decode attention keeps at most; chooseSplits stays inside. */
export const MAX_PARTIAL_ROWS = 1024;

/** Constants of attention_decode.wgsl (wide) or attention_decode_narrow.wgsl. */
export interface DecodeVariant {
  readonly kind: "wide" | "narrow";
  /** Query heads of one workgroup; each key is read once for all of them. */
  readonly headsPerWorkgroup: number;
  /** Workgroups that share the query heads of one KV head. */
  readonly headTiles: number;
  readonly lanes: number;
  /** Positions scored between two barriers. */
  readonly chunk: number;
}

/** Constants of attention_prefill.wgsl (tiled); attention_prefill_rows.wgsl (rows) needs none. */
export type PrefillVariant =
  | { readonly kind: "rows" }
  | {
      readonly kind: "tiled";
      readonly tileK: number;
      readonly rowGroups: number;
      readonly keyRowGroups: number;
      readonly lanes: number;
    };

/** Accumulators of more heads than this would spill to memory. */
const MAX_WIDE_HEADS = 8;
/** The heads of the narrow kernel are one vector. */
const MAX_NARROW_HEADS = 4;

/** `group` = numHeads / numKvHeads. A narrow workgroup is one subgroup: 4 lanes on SwiftShader, 8 on lavapipe. */
export function chooseDecodeVariant(
  headDim: number,
  group: number,
  { isSoftware, subgroupMaxSize }: AttentionAdapter,
): DecodeVariant {
  const headTiles = ceilDiv(group, isSoftware ? MAX_NARROW_HEADS : MAX_WIDE_HEADS);
  const heads = { headsPerWorkgroup: ceilDiv(group, headTiles), headTiles };
  if (isSoftware) {
    return { kind: "narrow", ...heads, lanes: subgroupMaxSize > 4 ? 8 : 4, chunk: 64 };
  }
  const quads = headDim / 4;
  return { kind: "wide", ...heads, lanes: quads * Math.floor(128 / quads), chunk: 256 };
}

/** Row groups are powers of two, as they divide TILE_Q. */
export function choosePrefillVariant(
  headDim: number,
  { isSoftware }: AttentionAdapter,
): PrefillVariant {
  if (isSoftware) return { kind: "rows" };
  const quads = headDim / 4;
  const rowGroups = powerOfTwoUpTo(128 / quads);
  const lanes = quads * rowGroups;
  const tileK = headDim > 128 ? 8 : 16;
  return { kind: "tiled", tileK, rowGroups, keyRowGroups: powerOfTwoUpTo(lanes / tileK), lanes };
}

/** The largest power of two that is at most `limit`, from 1 to TILE_Q. */
function powerOfTwoUpTo(limit: number): number {
  let power = 1;
  while (power * 2 <= Math.min(limit, TILE_Q)) power *= 2;
  return power;
}

/** Tokens x splits whose partials fit; rows of the scratch tensor. */
export function partialRows(decodeCapacity: number, maxSplits: number): number {
  return Math.min(decodeCapacity * maxSplits, Math.max(MAX_PARTIAL_ROWS, maxSplits));
}

/** Positions of one split, and the number of splits. */
export interface Splits {
  readonly splitSize: number;
  readonly numSplits: number;
}

/**
 * Splits of this step's decode attention. A split is worth its merge from 256 positions on where
 * idle cores wait for it; CPUs have few cores, and a launch costs them as much as 500 positions.
 */
export function chooseSplits(
  maxContextLength: number,
  maxSplits: number,
  blockSize: number,
  numDecodeTokens: number,
  { isSoftware }: AttentionAdapter,
): Splits {
  const context = Math.max(maxContextLength, 1);
  const minSplitSize = isSoftware ? 1024 : 256;
  const wanted = Math.floor((isSoftware ? 4 : MAX_PARTIAL_ROWS) / Math.max(numDecodeTokens, 1));
  const most = Math.max(1, Math.min(wanted, maxSplits, ceilDiv(context, minSplitSize)));
  const splitSize = roundUp(ceilDiv(context, most), blockSize);
  return { splitSize, numSplits: ceilDiv(context, splitSize) };
}

/** A sequence's chunk of prompt tokens in this step. */
export interface PrefillChunk {
  /** Row of the block tables. */
  readonly row: number;
  readonly firstTokenRow: number;
  readonly numTokens: number;
}

/** Tiles of at most TILE_Q tokens: [numTiles, 4] of (sequence row, first token row, tokens, 0). */
export function buildPrefillTiles(sequences: readonly PrefillChunk[]): Uint32Array<ArrayBuffer> {
  const tiles = sequences.flatMap(({ row, firstTokenRow, numTokens }) =>
    Array.from({ length: ceilDiv(numTokens, TILE_Q) }, (_, i) => {
      const done = i * TILE_Q;
      return [row, firstTokenRow + done, Math.min(TILE_Q, numTokens - done), 0];
    }),
  );
  return new Uint32Array(tiles.flat());
}
