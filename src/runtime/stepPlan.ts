/** What one step computes, as plain data: it survives JSON and a trip to another thread. */
import type { GpuSamplingParams } from "./samplingParams.ts";

/** One sequence's part of a step. */
export interface ScheduledSequence {
  /** Which of the maxNumSeqs slots holds the sequence's state on the ranks (`lastToken[slot]`, counts). */
  readonly slot: number;
  /**
   * First part since the sequence was (re)admitted: whatever the slot held belongs to another. It starts
   * past position 0 if the KV cache already holds the tokens before it.
   */
  readonly isFirst: boolean;
  /** Position of the first token of this part; everything before it is in the KV cache already. */
  readonly startPosition: number;
  /** Tokens of this part, at startPosition, startPosition + 1, … */
  readonly numTokens: number;
  /** The tokens; null means one token, read from `lastToken[slot]`: a decode. */
  readonly tokenIds: readonly number[] | null;
  /** Block ids in order: position p is in block `blockTable[floor(p / blockSize)]`. May reach further. */
  readonly blockTable: readonly number[];
  /** Tokens at positions below are prompt, the rest completion; after a preemption both are prefilled. */
  readonly promptLength: number;
  /** Sample a token after the last one of this part and store it in `lastToken[slot]`. */
  readonly samples: boolean;
  /** How; given with every part, so that ranks need not remember it. */
  readonly sampling: GpuSamplingParams;
  /** Position that the sampled token will take; with the seed it keys the draw in any batch. */
  readonly samplePosition: number;
  /**
   * With a first part that starts past position 0, of a sequence with penalties: the tokens before it,
   * which no part brings. Those below promptLength are prompt, the rest completion.
   */
  readonly cachedTokenIds?: readonly number[];
  /** With `samples`: [tokenId, bias] pairs by ascending id, added to the logits before all else. */
  readonly logitBias?: readonly LogitBias[];
  /** With `samples`: tokens that must not be sampled (their logits are -Infinity). */
  readonly bannedTokenIds?: readonly number[];
  /** With `samples`: the only tokens that may be sampled, as packed by `encodeTokenMask`. */
  readonly allowedTokens?: string;
  /** With `samples`: report the sampled token's log-probability, and those of this many likeliest. */
  readonly numLogprobs?: number;
  /** Report the log-probabilities of prompt tokens. */
  readonly promptLogprobs?: PromptLogprobsPart;
}

/** A token and what is added to its logit. */
export type LogitBias = readonly [tokenId: number, bias: number];

/** Which log-probabilities of prompt tokens a part asks for. */
export interface PromptLogprobsPart {
  /** Likeliest tokens to report at each position. */
  readonly numLogprobs: number;
  /**
   * targetTokenIds[i] is the prompt token that follows the part's i-th token: its log-probability comes
   * from that token's logits. As many as the part's tokens, or one less where the prompt ends with it.
   */
  readonly targetTokenIds: readonly number[];
}

/** Natural logarithms of softmax(raw logits): before bias, bans, masks, penalties and temperature. */
export interface TokenLogprobs {
  readonly tokenId: number;
  readonly logprob: number;
  /** The likeliest tokens, descending; of equals the lower id first. Need not hold `tokenId`. */
  readonly top: readonly (readonly [tokenId: number, logprob: number])[];
}

/** One step for every rank. It never holds a token id that is not sampled yet. */
export interface StepPlan {
  /** 0, 1, 2, … without gaps. */
  readonly stepIndex: number;
  /**
   * Decodes first, then prefill chunks of one token, then longer ones, so that both "the decodes" and
   * "the one-token parts" are a prefix. Never empty; no slot occurs twice.
   */
  readonly sequences: readonly ScheduledSequence[];
  /** The newest earlier step that sampled a token which a decode of this plan reads; -1 if none does. */
  readonly dependsOnStep: number;
  /**
   * A burst: so many plans follow at once, decodes of the same sequences that need nothing of the host in
   * between. A rank may submit them together with this one, or one by one. Absent: none.
   */
  readonly numFollowers?: number;
}

/** What a step cost, as far as the executor measures it. */
export interface StepStats {
  /** From the start of the step's first command to its tokens on the host. */
  readonly elapsedMs?: number;
  /** Time spent waiting in collectives, of the rank that waited longest. */
  readonly collectiveMs?: number;
  /** Bytes sent by all ranks in the step's collectives. */
  readonly collectiveBytes?: number;
}

/** What one step gave. */
export interface StepOutput {
  readonly stepIndex: number;
  /** One token for each sequence with `samples`, in the plan's order. */
  readonly tokenIds: readonly number[];
  /** One entry for each token of `tokenIds`, null where no `numLogprobs` was given; absent if none was. */
  readonly logprobs?: readonly (TokenLogprobs | null)[];
  /** For each part with `promptLogprobs`, in the plan's order: one entry for each of its targets. */
  readonly promptLogprobs?: readonly (readonly TokenLogprobs[])[];
  readonly stats?: StepStats;
}

/** Tokens that the step runs through the model. */
export function numTokensOf(plan: StepPlan): number {
  return plan.sequences.reduce((sum, { numTokens }) => sum + numTokens, 0);
}
