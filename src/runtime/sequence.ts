/** One request's prompt and completion, and how far the plans have taken it. */
import type { PrefixNode } from "./prefixCache.ts";
import type { FinishReason, Request, StopReason } from "./request.ts";
import { SequencePlanner } from "./sequencePlanner.ts";
import type { ScheduledSequence, TokenLogprobs } from "./stepPlan.ts";

/**
 * waiting: holds nothing. running: has a slot and blocks. preempting: will wait again once the plans that
 * use its blocks have returned. finished: has its reason; may still hold blocks for the same cause.
 */
export type SequenceStatus = "waiting" | "running" | "preempting" | "finished";

/** What one returned plan gave one sequence. */
export interface PartOutput {
  /** Undefined if the part sampled none. */
  readonly tokenId: number | undefined;
  readonly promptLogprobs: readonly TokenLogprobs[];
}

/** Mutable bookkeeping; only the scheduler changes it. */
export class Sequence {
  readonly request: Request;
  /** Order of arrival, kept over preemptions: FCFS sorts by it. */
  readonly arrivalIndex: number;
  /** Whose prompt it shares; it is admitted once that one's prefill is planned. */
  readonly leader: Sequence | null;
  /** Prompt, then the completion as far as it is known. */
  readonly tokenIds: number[];
  readonly blockTable: number[] = [];
  status: SequenceStatus = "waiting";
  finishReason: FinishReason = null;
  stopReason: StopReason = null;
  /** -1 while it has none. */
  slot = -1;
  /** Plans in flight that use its slot and blocks. */
  numPlansInFlight = 0;
  /** Step of the newest token sampled, known or not; what the next decode depends on. */
  lastSampledStep = -1;
  /** Step that brought the last prefill token of this admission. */
  prefilledAtStep = -1;
  /** Prompt tokens found in the cache on the first admission; null before it. */
  numCachedTokens: number | null = null;
  /** Later arrivals that were admitted while it waited. */
  numOvertakes = 0;
  /** Overtaken as often as may be: its priority counts no more. */
  isOverdue = false;
  /** The prefix that its first numRegistered blocks hold; null while it holds none. */
  prefix: PrefixNode | null = null;
  numRegistered = 0;

  readonly #planner: SequencePlanner;
  readonly #blockKeys: string[] = [];
  #prefillLength = 0; // tokens to compute before the first decode: all that were known on admission
  #numComputed = 0; // positions that plans cover since the last admission, those found in the cache included
  #numPending = 0; // tokens sampled by plans in flight: their ids are not known yet
  #promptLogprobs: TokenLogprobs[] = [];

  constructor(request: Request, arrivalIndex: number, leader: Sequence | null = null) {
    this.request = request;
    this.arrivalIndex = arrivalIndex;
    this.leader = leader;
    this.tokenIds = [...request.promptTokenIds];
    this.#planner = new SequencePlanner(request);
  }

  get promptLength(): number {
    return this.request.promptTokenIds.length;
  }

  /** The completion as far as it is known. */
  get completion(): number[] {
    return this.tokenIds.slice(this.promptLength);
  }

  /** Tokens of `completion`. */
  get numCompletion(): number {
    return this.tokenIds.length - this.promptLength;
  }

  /** Positions that plans cover, so also the next position to compute. */
  get numComputed(): number {
    return this.#numComputed;
  }

  /** Prefill still to be planned. */
  get numPrefillLeft(): number {
    return Math.max(0, this.#prefillLength - this.#numComputed);
  }

  /** Its newest token is known, or it has none. */
  get isSettled(): boolean {
    return this.#numPending === 0;
  }

  /** A decode would bring a token that is wanted, as far as is known before those in flight return. */
  get canDecode(): boolean {
    const isPrefilled = this.numPrefillLeft === 0;
    return this.status === "running" && isPrefilled && this.#numSampled < this.request.maxTokens;
  }

  /** So many decodes would bring tokens that may all be wanted, and need nothing of the host in between. */
  canDecodeAhead(numSteps: number): boolean {
    const numSampled = this.#numSampled;
    const isLongEnough = numSampled + numSteps <= this.request.maxTokens;
    return this.canDecode && isLongEnough && this.#planner.isFreeAfter(numSampled);
  }

  /** Log-probabilities of the prompt's tokens but the first, once the first token was sampled. */
  get promptLogprobs(): readonly TokenLogprobs[] {
    return this.#promptLogprobs;
  }

  /** Tokens that may not be sampled next. */
  get bannedNext(): readonly number[] {
    return this.#planner.bannedAt(this.#numSampled);
  }

  /** Log-probabilities of its prompt were asked for, and are not all there. */
  get wantsPromptLogprobs(): boolean {
    const { promptLogprobs } = this.request.sampling;
    return promptLogprobs !== null && this.#promptLogprobs.length < this.promptLength - 1;
  }

  /** A plan of so many tokens samples one. */
  samplesAfter(numTokens: number): boolean {
    return this.#numComputed + numTokens >= this.#prefillLength;
  }

  /** What the i-th block holds once it is full, as a key. */
  blockKey(index: number, blockSize: number): string {
    for (let i = this.#blockKeys.length; i <= index; i++) {
      this.#blockKeys.push(this.tokenIds.slice(i * blockSize, (i + 1) * blockSize).join());
    }
    return this.#blockKeys[index] ?? "";
  }

  /** Keys of the blocks that a cache may give it: all full ones, but one token is left to run. */
  *cacheableKeys(blockSize: number): Generator<string, void, undefined> {
    const numBlocks = Math.floor((this.tokenIds.length - 1) / blockSize);
    for (let i = 0; i < numBlocks; i++) yield this.blockKey(i, blockSize);
  }

  /**
   * Takes a slot; the cache holds the first numCachedTokens tokens already. After a preemption the known
   * completion is prefilled like a longer prompt.
   */
  admit(slot: number, numCachedTokens: number): void {
    this.status = "running";
    this.slot = slot;
    this.numCachedTokens ??= numCachedTokens;
    this.#prefillLength = this.tokenIds.length;
    this.#numComputed = numCachedTokens;
    this.#planner.admit(numCachedTokens, this.#promptLogprobs.length);
    if (this.#planner.wantsPromptLogprobs) this.#promptLogprobs = [];
  }

  /** Plans the next numTokens tokens: a prefill chunk, or one decode. */
  plan(numTokens: number, stepIndex: number, allowedTokens?: string): ScheduledSequence {
    const start = this.#numComputed;
    const isDecode = this.numPrefillLeft === 0;
    const samples = this.samplesAfter(numTokens);
    const numCompletion = this.#numSampled;
    this.#numComputed += numTokens;
    this.numPlansInFlight += 1;
    if (samples) {
      this.#numPending += 1;
      this.lastSampledStep = stepIndex;
      if (!isDecode) this.prefilledAtStep = stepIndex;
    }
    const { slot, blockTable, tokenIds } = this;
    const part = { slot, blockTable, tokenIds, start, numTokens, isDecode, samples, numCompletion };
    return this.#planner.plan(part, allowedTokens);
  }

  /** One of its plans returned. False if it brought no token that is wanted. */
  settle({ tokenId, promptLogprobs }: PartOutput): boolean {
    this.numPlansInFlight -= 1;
    this.#promptLogprobs.push(...promptLogprobs);
    if (tokenId === undefined) return false;
    this.#numPending -= 1;
    if (this.status === "finished") return false;
    this.tokenIds.push(tokenId);
    const { stopTokenIds, maxTokens, sampling } = this.request;
    const { numCompletion } = this;
    // Before minTokens none is sampled, unless bans leave nothing else.
    if (stopTokenIds.has(tokenId) && numCompletion > sampling.minTokens) {
      this.finish("stop", this.#planner.isOwnStop(tokenId) ? tokenId : null);
    } else if (numCompletion === maxTokens) this.finish("length");
    return true;
  }

  finish(reason: Exclude<FinishReason, null>, stopReason: StopReason = null): void {
    this.status = "finished";
    this.finishReason = reason;
    this.stopReason = stopReason;
  }

  // Completion tokens, those in flight included.
  get #numSampled(): number {
    return this.numCompletion + this.#numPending;
  }
}
