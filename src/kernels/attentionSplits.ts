/** How decode attention cuts the contexts of a step: into splits that are merged, or not at all. */
import { ceilDiv, roundUp } from "../common/math.ts";
import {
  ATTENTION_CANDIDATES,
  type AttentionAdapter,
  attentionEntry,
  chooseWholeVariant,
} from "./attentionVariant.ts";
import { tunedNumber } from "./tuned.ts";

/** The entry of `AdapterInfo.tuned` for the splits of decode attention, which all its shapes share. */
export const SPLITS_ENTRY = "attention splits";

/** Fields of that entry: workgroups wanted and positions of a split at least; the numbers that autotuning tries. */
export const SPLITS_CANDIDATES = {
  workgroups: [128, 256, 512, 1024],
  minSplitSize: [32, 64, 128, 256],
} as const;
export type SplitsField = keyof typeof SPLITS_CANDIDATES;

/** Partials (rows of tokens x splits) that decode attention keeps at most; chooseSplits stays inside. */
const MAX_PARTIAL_ROWS = 1024;
/** Workgroups of decode attention that fill the adapters measured (132 cores). */
const WANTED_WORKGROUPS = 256;
/** Workgroups of whole contexts, a query head each, that run at once there. */
const MAX_WHOLE_WORKGROUPS = 128;

/** Tokens x splits whose partials fit; rows of the scratch tensor. */
export function partialRows(decodeCapacity: number, maxSplits: number): number {
  return Math.min(decodeCapacity * maxSplits, Math.max(MAX_PARTIAL_ROWS, maxSplits));
}

/** Heads of a rank's attention. */
export interface AttentionHeads {
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
}

/**
 * Measured on an H200, heads of 64, one sequence: 7.7 us at 560 positions and 8.3 at 700 instead of 8.1 and 8.2 for
 * splits and their merge, which are a launch more; 8.7 instead of 10.4 for four sequences at 560. Heads of 128 take
 * twice as long to read: 10.1 instead of 8.6.
 */
const WHOLE_CONTEXT = { 64: 640 } as Readonly<Record<number, number>>;

/**
 * Contexts of up to so many positions are not split where `takesWhole`: a workgroup a query head takes less
 * than splits and their merge, or as long and a launch less.
 */
export function wholeContext(heads: AttentionHeads, adapter: AttentionAdapter): number {
  const { numHeads, numKvHeads, headDim } = heads;
  const group = numHeads / numKvHeads;
  if (chooseWholeVariant(headDim, group, adapter) === undefined) return 0;
  const entry = attentionEntry(headDim, group);
  const allowed = ATTENTION_CANDIDATES.wholeContext;
  return tunedNumber(adapter.tuned, entry, "wholeContext", allowed) ?? WHOLE_CONTEXT[headDim] ?? 0;
}

/** Whether a step has so few query heads that a workgroup each can run at once. */
export function takesWhole(numDecodeTokens: number, numHeads: number): boolean {
  return numDecodeTokens * numHeads <= MAX_WHOLE_WORKGROUPS;
}

/** Positions of one split, and the number of splits. */
export interface Splits {
  readonly splitSize: number;
  readonly numSplits: number;
}

/** A step as far as its splits depend on it. */
export interface SplitRequest {
  /** Positions of the longest context, that of the token itself included. */
  readonly maxContextLength: number;
  readonly numDecodeTokens: number;
  readonly maxSplits: number;
  readonly blockSize: number;
  readonly heads: AttentionHeads;
}

/**
 * Splits of this step's decode attention. Idle cores wait for a split: it is worth its merge from
 * 64 positions on, until all cores have work. CPUs have few cores, and a launch costs them as much
 * as 500 positions.
 */
export function chooseSplits(request: SplitRequest, adapter: AttentionAdapter): Splits {
  const { maxSplits, blockSize, heads } = request;
  const context = Math.max(request.maxContextLength, 1);
  const tokens = Math.max(request.numDecodeTokens, 1);
  const { isSoftware, tuned } = adapter;
  const best = (field: SplitsField, otherwise: number): number =>
    tunedNumber(tuned, SPLITS_ENTRY, field, SPLITS_CANDIDATES[field]) ?? otherwise;
  const minSplitSize = isSoftware ? 1024 : best("minSplitSize", 64);
  const isWhole = takesWhole(tokens, heads.numHeads) && context <= wholeContext(heads, adapter);
  const wanted = isSoftware
    ? Math.floor(4 / tokens)
    : Math.min(
        ceilDiv(best("workgroups", WANTED_WORKGROUPS), tokens * heads.numKvHeads),
        Math.floor(MAX_PARTIAL_ROWS / tokens),
      );
  const useful = isWhole ? 1 : ceilDiv(context, minSplitSize);
  const most = Math.max(1, Math.min(wanted, maxSplits, useful));
  const splitSize = roundUp(ceilDiv(context, most), blockSize);
  return { splitSize, numSplits: ceilDiv(context, splitSize) };
}
