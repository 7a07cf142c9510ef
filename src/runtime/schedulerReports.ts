/** What the scheduler tells its driver. */
import type { FinishReason, StopReason } from "./request.ts";
import type { TokenLogprobs } from "./stepPlan.ts";

/** A token that belongs to a request, in the order sampled. */
export interface SampledToken {
  readonly requestId: string;
  readonly tokenId: number;
  readonly finishReason: FinishReason;
  readonly stopReason: StopReason;
  /** Null where none were asked for. */
  readonly logprobs: TokenLogprobs | null;
  /** With the first token, where asked for: one entry a prompt token, null for the first. */
  readonly promptLogprobs: readonly (TokenLogprobs | null)[] | null;
}

/** admitted: for the first time. failed: it ended by its own fault, such as a mask that allows no token. */
export type SchedulerEvent =
  | { readonly kind: "admitted"; readonly requestId: string; readonly numCachedTokens: number }
  | { readonly kind: "failed"; readonly requestId: string; readonly cause: Error };

/** The scheduler's state in numbers, for metrics and tests. */
export interface SchedulerStats {
  readonly numWaiting: number;
  readonly numRunning: number;
  /** Finished or preempted, with blocks that plans in flight still use. */
  readonly numDraining: number;
  readonly numPlansInFlight: number;
  /** Blocks that some sequence holds; with the two below, all of the KV cache. */
  readonly numUsedBlocks: number;
  /** Blocks that nobody holds, with a prefix that may be asked for again. */
  readonly numCachedBlocks: number;
  /** Blocks with nothing in them. */
  readonly numBlankBlocks: number;
  /** Tokens that the prefix cache was asked for, and those it had; since the start. */
  readonly numPrefixQueryTokens: number;
  readonly numPrefixHitTokens: number;
  /** Since the start. */
  readonly numPreemptions: number;
  /** Part of all stage-steps in which a pipeline stage stood idle, estimated from the plans; 0 to 1. */
  readonly bubbleFraction: number;
}
