/** The counts of one step that launches and kernels read; a list is recorded once and replayed with any counts. */
import type { Tensor } from "./tensor.ts";

/** The fields of shaders/lib/live.wgsl, in its order, then some that only the host reads. All are u32. */
export interface LiveCounts {
  /** Tokens of this step; rows of every activation that are live. */
  readonly numTokens: number;
  readonly numSequences: number;
  /** Leading tokens that decode attention handles (split-K); the rest goes by tiles. */
  readonly numDecodeTokens: number;
  /** Tiles of prefill attention. */
  readonly numPrefillTiles: number;
  /** Rows that get logits and a sampled token. */
  readonly numSamples: number;
  /** KV positions one split of decode attention covers, and the number of splits. */
  readonly splitSize: number;
  readonly numSplits: number;
  readonly maxContextLength: number;
  /** Sampled rows with penalties; with any filter (top-k, top-p, min-p); that may need more than 64 candidates. */
  readonly numPenalized: number;
  readonly numFiltered: number;
  readonly numWide: number;
  /** Entries of the table of logit biases and bans. */
  readonly numBiased: number;
  /** Host only: sampled rows with a mask; that report log-probabilities. */
  readonly numMasked: number;
  readonly numLogprobRows: number;
}

/**
 * The counts that workgroups of launches, and whether a host operation is needed, may depend on: those that stay
 * the same from step to step of a decode.
 */
export type LaunchCounts = Omit<LiveCounts, "maxContextLength">;

/** Whether two replays run the same launches with the same workgroups. */
export function sameLaunchCounts(a: LaunchCounts, b: LaunchCounts): boolean {
  return (
    a.numTokens === b.numTokens &&
    a.numSequences === b.numSequences &&
    a.numDecodeTokens === b.numDecodeTokens &&
    a.numPrefillTiles === b.numPrefillTiles &&
    a.numSamples === b.numSamples &&
    a.splitSize === b.splitSize &&
    a.numSplits === b.numSplits &&
    a.numPenalized === b.numPenalized &&
    a.numFiltered === b.numFiltered &&
    a.numWide === b.numWide &&
    a.numBiased === b.numBiased &&
    a.numMasked === b.numMasked &&
    a.numLogprobRows === b.numLogprobRows
  );
}

/** Bytes of `struct Live`: twelve u32. */
export const LIVE_SIZE_BYTES = 48;

/** `struct Live` for upload. */
export function packLiveCounts(live: LiveCounts): Uint32Array<ArrayBuffer> {
  return new Uint32Array([
    live.numTokens,
    live.numSequences,
    live.numDecodeTokens,
    live.numPrefillTiles,
    live.numSamples,
    live.splitSize,
    live.numSplits,
    live.maxContextLength,
    live.numPenalized,
    live.numFiltered,
    live.numWide,
    live.numBiased,
  ]);
}

/** Counts of `numTokens` live rows, by themselves or with what `more` says: no attention, every row sampled. */
export function liveRows(numTokens: number, more: Partial<LiveCounts> = {}): LiveCounts {
  return {
    numTokens,
    numSequences: 1,
    numDecodeTokens: 0,
    numPrefillTiles: 0,
    numSamples: numTokens,
    splitSize: 1,
    numSplits: 1,
    maxContextLength: numTokens,
    numPenalized: 0,
    numFiltered: 0,
    numWide: 0,
    numBiased: 0,
    numMasked: 0,
    numLogprobRows: 0,
    ...more,
  };
}

/** Bytes of the live rows of a tensor [rows, …]. */
export function liveBytes(tensor: Tensor, rows: number): number {
  const [capacity = 1] = tensor.shape;
  return (tensor.sizeBytes / Math.max(capacity, 1)) * rows;
}
