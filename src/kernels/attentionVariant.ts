/** How attention is cut into workgroups: pure functions of shapes and the adapter. */
import { ceilDiv } from "../common/math.ts";
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

/** Fields of that entry: lanes of a workgroup, and `wholeContext` of attentionSplits.ts. */
export const ATTENTION_CANDIDATES = {
  lanes: [128, 256],
  wholeContext: [0, 512, 640, 1024, 2048, 4096],
} as const;

/** Query tokens of one prefill tile. */
export const TILE_Q = 16;

/** Constants of attention_decode_subgroup.wgsl, attention_decode.wgsl (wide) or attention_decode_narrow.wgsl. */
export type DecodeVariant = DecodeHeads &
  (
    | {
        readonly kind: "subgroup";
        readonly maxSubgroups: number;
        /** For whole contexts: many subgroups, of which the last turn needs few. */
        readonly isWhole: boolean;
      }
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
  if (takesSubgroups(headDim, adapter) && subgroupMaxSize <= lanes) {
    const heads = tileHeads(group, MAX_VECTOR_HEADS);
    const maxSubgroups = lanes / subgroupMinSize;
    return { kind: "subgroup", ...heads, lanes, maxSubgroups, isWhole: false };
  }
  const quads = headDim / 4;
  const heads = tileHeads(group, MAX_WIDE_HEADS);
  return { kind: "wide", ...heads, lanes: quads * Math.floor(128 / quads), chunk: 256 };
}

/** Lanes of a workgroup that takes the whole context of a query head, and the fewest that are worth it. */
const MAX_WHOLE_LANES = 1024;
const MIN_WHOLE_LANES = 256;
/** Each subgroup keeps a head's sums of its positions, its top and its weight in workgroup memory. */
const MAX_WHOLE_BYTES = 24 << 10;

/**
 * The variant for a workgroup a query head, without splits to merge; undefined on adapters whose
 * workgroups are too small, and on software adapters.
 */
export function chooseWholeVariant(
  headDim: number,
  group: number,
  adapter: AttentionAdapter,
): DecodeVariant | undefined {
  const { isSoftware, subgroupMinSize, subgroupMaxSize, limits } = adapter;
  if (isSoftware || !takesSubgroups(headDim, adapter)) return undefined;
  const { maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX } = limits;
  const most = Math.min(maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX);
  const bytesOf = (lanes: number): number => (lanes / subgroupMinSize) * (headDim + 2) * 4;
  let lanes = MAX_WHOLE_LANES;
  while (lanes > most || bytesOf(lanes) > MAX_WHOLE_BYTES) lanes /= 2;
  if (lanes < Math.max(MIN_WHOLE_LANES, subgroupMaxSize)) return undefined;
  const maxSubgroups = lanes / subgroupMinSize;
  const heads = { headsPerWorkgroup: 1, headTiles: group };
  return { kind: "subgroup", ...heads, lanes, maxSubgroups, isWhole: true };
}

/** A key takes so many lanes of a subgroup as it has eights of elements, 4 or more. */
function takesSubgroups(
  headDim: number,
  { subgroupMinSize }: Pick<AttentionAdapter, "subgroupMinSize">,
): boolean {
  const octs = headDim / 8;
  return isPowerOfTwo(octs) && octs >= 4 && octs <= subgroupMinSize;
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
