/** Writes a sequence's parts of plans: what a request asks of sampling, as far as each part needs it. */
import type { Request } from "./request.ts";
import { type GpuSamplingParams, gpuSamplingParams, needsPenalties } from "./samplingParams.ts";
import type { LogitBias, PromptLogprobsPart, ScheduledSequence } from "./stepPlan.ts";

/** One part to be written. */
export interface PartDraft {
  readonly slot: number;
  readonly blockTable: readonly number[];
  /** Prompt and known completion. */
  readonly tokenIds: readonly number[];
  readonly start: number;
  readonly numTokens: number;
  readonly isDecode: boolean;
  readonly samples: boolean;
  /** Completion tokens before the one that this part samples. */
  readonly numCompletion: number;
}

export class SequencePlanner {
  readonly #request: Request;
  readonly #sampling: GpuSamplingParams;
  readonly #logitBias: readonly LogitBias[];
  readonly #bannedTokenIds: readonly number[];
  #firstStart = 0; // of this admission
  #wantsPromptLogprobs = false;

  constructor(request: Request) {
    this.#request = request;
    this.#sampling = gpuSamplingParams(request.sampling);
    // Keys that are whole numbers are listed in ascending order.
    this.#logitBias = Object.entries(request.sampling.logitBias).map(([id, bias]) => [
      Number(id),
      bias,
    ]);
    this.#bannedTokenIds = [...request.stopTokenIds].sort((a, b) => a - b);
  }

  /** The prompt's log-probabilities are still to be computed, from its begin. */
  get wantsPromptLogprobs(): boolean {
    return this.#wantsPromptLogprobs;
  }

  /** The sequence starts at `firstStart`; `numKnown` of its prompt's log-probabilities are there. */
  admit(firstStart: number, numKnown: number): void {
    this.#firstStart = firstStart;
    const { promptTokenIds, sampling } = this.#request;
    this.#wantsPromptLogprobs =
      sampling.promptLogprobs !== null && numKnown < promptTokenIds.length - 1;
  }

  /** The request named this stop token itself, rather than the tokenizer. */
  isOwnStop(tokenId: number): boolean {
    return this.#request.sampling.stopTokenIds.includes(tokenId);
  }

  /** Tokens that may not follow a completion of so many. */
  bannedAt(numCompletion: number): readonly number[] {
    return numCompletion < this.#request.sampling.minTokens ? this.#bannedTokenIds : [];
  }

  /** Tokens after a completion of so many are sampled from logits as they are, and nothing else is asked for. */
  isFreeAfter(numCompletion: number): boolean {
    const { allowedTokens, sampling } = this.#request;
    const isEdited = this.#logitBias.length > 0 || this.bannedAt(numCompletion).length > 0;
    const isPlain = !isEdited && allowedTokens === null && !needsPenalties(this.#sampling);
    return isPlain && sampling.logprobs === null;
  }

  plan(part: PartDraft, allowedTokens: string | undefined): ScheduledSequence {
    const { slot, start, numTokens, isDecode, samples, tokenIds } = part;
    const end = start + numTokens;
    const isFirst = start === this.#firstStart;
    const hasHiddenTokens = isFirst && start > 0 && needsPenalties(this.#sampling);
    const promptLogprobs = this.#promptLogprobsPart(start, end);
    return {
      slot,
      isFirst,
      startPosition: start,
      numTokens,
      tokenIds: isDecode ? null : tokenIds.slice(start, end),
      blockTable: [...part.blockTable],
      promptLength: this.#request.promptTokenIds.length,
      samples,
      sampling: this.#sampling,
      samplePosition: end,
      ...(hasHiddenTokens ? { cachedTokenIds: tokenIds.slice(0, start) } : {}),
      ...(promptLogprobs === undefined ? {} : { promptLogprobs }),
      ...(samples ? this.#sampleFields(part, allowedTokens) : {}),
    };
  }

  #sampleFields(
    { numCompletion }: PartDraft,
    allowedTokens: string | undefined,
  ): Partial<ScheduledSequence> {
    const { logprobs } = this.#request.sampling;
    const bannedTokenIds = this.bannedAt(numCompletion);
    return {
      ...(this.#logitBias.length > 0 ? { logitBias: this.#logitBias } : {}),
      ...(bannedTokenIds.length > 0 ? { bannedTokenIds } : {}),
      ...(allowedTokens === undefined ? {} : { allowedTokens }),
      ...(logprobs === null ? {} : { numLogprobs: logprobs }),
    };
  }

  #promptLogprobsPart(start: number, end: number): PromptLogprobsPart | undefined {
    const { promptTokenIds, sampling } = this.#request;
    if (!this.#wantsPromptLogprobs || sampling.promptLogprobs === null) return undefined;
    const targetTokenIds = promptTokenIds.slice(start + 1, end + 1);
    if (targetTokenIds.length === 0) return undefined;
    return { numLogprobs: sampling.promptLogprobs, targetTokenIds };
  }
}
