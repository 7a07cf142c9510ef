/** How attention is cut into workgroups: pure functions of shapes and the adapter. */
import { ceilDiv, roundUp } from "../common/math.ts";
import type { AdapterInfo } from "../device/device.ts";
import { hasMatrixKernel } from "./linearMatrix.ts";
import { type TunedAdapter, tunedNumber } from "./tuned.ts";

/** What the choice depends on. */
export type AttentionAdapter = Pick<
  AdapterInfo,
  "isSoftware" | "hasF16Matrices" | "subgroupMinSize" | "subgroupMaxSize" | "limits"
> &
  TunedAdapter;

/** The entry of `AdapterInfo.tuned` for decode attention of heads of a size, by query heads a KV head. */
export function attentionEntry(headDim: number, group: number): string {
  return `attention ${headDim} ${group}`;
}

/** The entry for the splits of decode attention, which all its shapes share. */
export const SPLITS_ENTRY = "attention splits";

/** Fields of the entries: lanes of a workgroup; workgroups wanted and positions of a split at least. */
export type AttentionField = "lanes" | "workgroups" | "minSplitSize";

/** The numbers that autotuning tries on hardware, and the only ones that an entry may name. */
export const ATTENTION_CANDIDATES: Readonly<Record<AttentionField, readonly number[]>> = {
  lanes: [128, 256],
  workgroups: [128, 256, 512, 1024],
  minSplitSize: [32, 64, 128, 256],
};

/** Query tokens of one prefill tile. */
export const TILE_Q = 16;

/** Partials (rows of tokens x splits) that decode attention keeps at most; chooseSplits stays inside. */
export const MAX_PARTIAL_ROWS = 1024;

/** Constants of attention_decode_subgroup.wgsl, attention_decode.wgsl (wide) or attention_decode_narrow.wgsl. */
export type DecodeVariant = DecodeHeads &
  (
    | { readonly kind: "subgroup"; readonly maxSubgroups: number }
    /** `chunk`: positions scored between two barriers. */
    | { readonly kind: "wide"; readonly chunk: number }
    | { readonly kind: "narrow"; readonly chunk: number }
  );

interface DecodeHeads {
  /** Query heads of one workgroup; each key is read once for all of them. */
  readonly headsPerWorkgroup: number;
  /** Workgroups that share the query heads of one KV head. */
  readonly headTiles: number;
  readonly lanes: number;
}

/** Constants of attention_prefill_matrix.wgsl and attention_prefill.wgsl (tiled); attention_prefill_rows.wgsl (rows) needs none. */
export type PrefillVariant =
  | { readonly kind: "rows" }
  | {
      readonly kind: "tiled";
      readonly tileK: number;
      readonly rowGroups: number;
      readonly keyRowGroups: number;
      readonly lanes: number;
    }
  | {
      readonly kind: "matrix";
      /** Subgroups of a workgroup; each takes one tile and head. */
      readonly subgroups: number;
    };

/**
 * Measured on an H200 at 2,048 tokens, 32 heads over 8, headDim 64: 157 us a layer with 8 subgroups,
 * 219 with 4. Workgroup memory: 39 KiB, and 47 with headDim 128.
 */
const MATRIX_SUBGROUPS = 8;

/** Accumulators of more heads than this would spill to memory. */
const MAX_WIDE_HEADS = 8;
/** The heads of the other kernels are one vector. */
const MAX_VECTOR_HEADS = 4;

/** From here on sequences alone are workgroups enough for a GPU. */
const MANY_DECODE_TOKENS = 9;

/**
 * `group` = numHeads / numKvHeads; a step decodes at most `maxTokens`. A narrow workgroup is one subgroup: 4
 * lanes on SwiftShader, 8 on lavapipe.
 */
export function chooseDecodeVariant(
  headDim: number,
  group: number,
  adapter: Pick<AttentionAdapter, "isSoftware" | "subgroupMinSize" | "subgroupMaxSize" | "tuned">,
  maxTokens = 1,
): DecodeVariant {
  const { isSoftware, subgroupMinSize, subgroupMaxSize } = adapter;
  if (isSoftware) {
    const lanes = subgroupMaxSize > 4 ? 8 : 4;
    return { kind: "narrow", ...tileHeads(group, MAX_VECTOR_HEADS), lanes, chunk: 64 };
  }
  const octs = headDim / 8;
  // 57 us with 128 lanes and 44 with 256, for 32,768 positions of headDim 128 on an H200; 22 and 19 for 32 times
  // 512 positions of headDim 64. A larger head, or more and smaller subgroups, would take too much workgroup memory
  const isLarge = headDim > 128 || subgroupMinSize < 32;
  const tuned = tunedNumber(
    adapter.tuned,
    attentionEntry(headDim, group),
    "lanes",
    isLarge ? [128] : ATTENTION_CANDIDATES.lanes,
  );
  const isWide = headDim === 128 || (headDim === 64 && maxTokens >= MANY_DECODE_TOKENS);
  const lanes = tuned ?? (isWide && !isLarge ? 256 : 128);
  if (isPowerOfTwo(octs) && octs >= 4 && octs <= subgroupMinSize && subgroupMaxSize <= lanes) {
    const heads = tileHeads(group, MAX_VECTOR_HEADS);
    return { kind: "subgroup", ...heads, lanes, maxSubgroups: lanes / subgroupMinSize };
  }
  const quads = headDim / 4;
  const heads = tileHeads(group, MAX_WIDE_HEADS);
  return { kind: "wide", ...heads, lanes: quads * Math.floor(128 / quads), chunk: 256 };
}

function tileHeads(group: number, most: number): Omit<DecodeHeads, "lanes"> {
  const headTiles = ceilDiv(group, most);
  return { headsPerWorkgroup: ceilDiv(group, headTiles), headTiles };
}

function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(Math.log2(value));
}

/** Lanes of attention_merge.wgsl that share a quad of the output; software lanes run one by one. */
export function mergeParts(
  headDim: number,
  { isSoftware }: Pick<AttentionAdapter, "isSoftware">,
): number {
  return isSoftware ? 1 : Math.max(1, Math.floor(256 / (headDim / 4)));
}

/** Row groups are powers of two, as they divide TILE_Q. */
export function choosePrefillVariant(headDim: number, adapter: AttentionAdapter): PrefillVariant {
  if (adapter.isSoftware) return { kind: "rows" };
  if (takesMatrices(headDim, adapter)) {
    return { kind: "matrix", subgroups: MATRIX_SUBGROUPS };
  }
  const quads = headDim / 4;
  const rowGroups = powerOfTwoUpTo(128 / quads);
  const lanes = quads * rowGroups;
  const tileK = headDim > 128 ? 8 : 16;
  return { kind: "tiled", tileK, rowGroups, keyRowGroups: powerOfTwoUpTo(lanes / tileK), lanes };
}

function takesMatrices(headDim: number, adapter: AttentionAdapter): boolean {
  const keyAndValueBytes = 2 * 32 * (headDim / 8 + 1) * 16;
  const rowBytes = MATRIX_SUBGROUPS * 16 * (10 + 5) * 16; // scores and weights
  const sizeBytes = keyAndValueBytes + rowBytes + 4 * MATRIX_SUBGROUPS;
  const isFitting = sizeBytes <= adapter.limits.maxComputeWorkgroupStorageSize;
  return hasMatrixKernel(adapter) && (headDim === 64 || headDim === 128) && isFitting;
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

/** Workgroups of decode attention that fill the adapters measured (132 cores). */
const WANTED_WORKGROUPS = 256;

/**
 * Splits of this step's decode attention. Idle cores wait for a split: it is worth its merge from
 * 64 positions on, until all cores have work. CPUs have few cores, and a launch costs them as much
 * as 500 positions.
 */
export function chooseSplits(
  maxContextLength: number,
  maxSplits: number,
  blockSize: number,
  numDecodeTokens: number,
  { isSoftware, tuned }: Pick<AttentionAdapter, "isSoftware" | "tuned">,
  numKvHeads = 1,
): Splits {
  const context = Math.max(maxContextLength, 1);
  const tokens = Math.max(numDecodeTokens, 1);
  const best = (field: "workgroups" | "minSplitSize", otherwise: number): number =>
    tunedNumber(tuned, SPLITS_ENTRY, field, ATTENTION_CANDIDATES[field]) ?? otherwise;
  const minSplitSize = isSoftware ? 1024 : best("minSplitSize", 64);
  const wanted = isSoftware
    ? Math.floor(4 / tokens)
    : Math.min(
        ceilDiv(best("workgroups", WANTED_WORKGROUPS), tokens * numKvHeads),
        Math.floor(MAX_PARTIAL_ROWS / tokens),
      );
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
