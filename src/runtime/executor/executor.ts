/** What the engine asks of whatever runs the model: the ranks of one thread, or of many. */
import type { StepOutput, StepPlan } from "../stepPlan.ts";

/** Sizes that are fixed once the model is loaded; the scheduler never plans past them. */
export interface ExecutorLimits {
  /** Sequences that may hold a slot at once; slots are 0 to maxNumSeqs - 1. */
  readonly maxNumSeqs: number;
  /** Tokens of one step, over all its sequences; at least maxNumSeqs. */
  readonly maxNumBatchedTokens: number;
  /** Tokens that one block of the KV cache holds. */
  readonly blockSize: number;
  /** Blocks of the KV cache, the same on all ranks; ids are 0 to numBlocks - 1. */
  readonly numBlocks: number;
  /** Prompt and completion together. */
  readonly maxModelLen: number;
  readonly vocabSize: number;
  /** Plans that may wait for their output at once, a burst counting as one; at least ppSize. */
  readonly maxInFlight: number;
  /** Of these, while steps take long; maxInFlight when left out. See Lookahead. */
  readonly maxLongInFlight?: number;
  /** Plans of a burst; 1, which is none, when left out. See StepPlan.numFollowers. */
  readonly burstSteps?: number;
  /** Plans that should be independent of each other: pipeline stages x micro-batches; 1 when left out. */
  readonly ppSize?: number;
  /** Micro-batches that each rank runs at once, a factor of ppSize; 1 when left out. */
  readonly numMicroBatches?: number;
  /** Fewer decodes than this are not dealt to several micro-batches; 1 when left out. */
  readonly minSplitDecodes?: number;
}

/** Runs StepPlans on every rank. */
export interface Executor {
  readonly limits: ExecutorLimits;
  /** Grows when the KV cache was written to other than by plans: what an engine knows of it is void then. */
  readonly cacheEpoch?: number;
  /**
   * Runs one plan. Several may be in flight; they run, and their promises settle, in the order of the
   * calls. A rejection is final: the engine fails every request and makes no further call but `shutdown`.
   */
  execute(plan: StepPlan): Promise<StepOutput>;
  /** Calls `listener` once, as soon as it has failed: also while no plan runs. */
  onFailure?(listener: (error: Error) => void): void;
  /** Stops all ranks and frees their devices; called once, also after a failure. */
  shutdown(): Promise<void>;
}
