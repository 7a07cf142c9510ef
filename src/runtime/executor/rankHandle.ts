/** One rank as an executor drives it, wherever the rank lives. */
import type { TraceProcess } from "../../common/trace.ts";
import type { LaunchTime } from "../../device/timestamps.ts";
import type { RankReport } from "../rankSpec.ts";
import type { RankStats } from "../stats.ts";
import type { StepOutput, StepPlan } from "../stepPlan.ts";

/** One tap of a forward pass: the live rows of a tensor, in order. */
export interface TapRecord {
  readonly name: string;
  readonly numColumns: number;
  readonly data: Float32Array<ArrayBuffer>; // [numTokens, numColumns]
}

/** A step to time: one token after `length` of context, or a prompt of `length` tokens. */
export interface ProfiledStep {
  readonly phase: "decode" | "prefill";
  readonly length: number;
  readonly batchSize: number;
  /** Time the step as a whole, its launches in a row as they run, instead of each launch by itself. */
  readonly isWhole?: boolean;
}

export interface RankHandle {
  readonly rank: number;
  /** Opens the device and loads the weights. */
  open(): Promise<RankReport>;
  /** Bytes that its device can still allocate, as far as `maxBytes`. */
  probeFreeBytes(maxBytes: number): Promise<number>;
  /** Allocates the KV cache and compiles; resolves to the bytes allocated besides the cache. */
  start(numBlocks: number): Promise<number>;
  /** Plans run in the order of the calls. Resolves to the output on the sampling rank, null elsewhere. */
  execute(plan: StepPlan): Promise<StepOutput | null>;
  /** Taps of a prompt whose name passes `only` (a prefix match on any entry; all when empty). */
  forwardTaps(tokenIds: readonly number[], only: readonly string[]): Promise<readonly TapRecord[]>;
  /**
   * GPU time of the launches of one step, or of all in a row; empty without timestamps, or where a step
   * to time as a whole waits for the host. All ranks take part.
   */
  profileStep(step: ProfiledStep): Promise<readonly LaunchTime[]>;
  stats(): Promise<RankStats>;
  resetStats(): Promise<void>;
  /** What it did so far, with its times; undefined unless its spec says that it is traced. */
  trace(): Promise<TraceProcess | undefined>;
  /** Ends the rank and frees its device; safe after a failure. */
  shutdown(): Promise<void>;
  /** Calls `listener` when the rank fails outside of any call, e.g. when its thread dies. */
  onFailure(listener: (error: Error) => void): void;
  /** Fails this rank's collectives and those of all others. */
  abort(reason: string): void;
}
