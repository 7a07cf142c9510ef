/** One request's prompt and completion, and how far the plans have taken it. */
import type { FinishReason, Request } from "./request.ts";
import { type GpuSamplingParams, gpuSamplingParams } from "./samplingParams.ts";
import type { ScheduledSequence } from "./stepPlan.ts";

/**
 * waiting: holds nothing. running: has a slot and blocks. preempting: will wait again once the plans that
 * use its blocks have returned. finished: has its reason; may still hold blocks for the same cause.
 */
export type SequenceStatus = "waiting" | "running" | "preempting" | "finished";

/** Mutable bookkeeping; only the scheduler changes it. */
export class Sequence {
  readonly request: Request;
  /** Order of arrival, kept over preemptions: FCFS sorts by it. */
  readonly arrivalIndex: number;
  /** Prompt, then the completion as far as it is known. */
  readonly tokenIds: number[];
  readonly blockTable: number[] = [];
  status: SequenceStatus = "waiting";
  finishReason: FinishReason = null;
  /** -1 while it has none. */
  slot = -1;
  /** Plans in flight that use its slot and blocks. */
  numPlansInFlight = 0;
  /** Step of the newest token sampled, known or not; what the next decode depends on. */
  lastSampledStep = -1;

  readonly #sampling: GpuSamplingParams;
  #prefillLength = 0; // tokens to compute before the first decode: all that were known on admission
  #numComputed = 0; // positions that plans cover since the last admission
  #numPending = 0; // tokens sampled by plans in flight: their ids are not known yet

  constructor(request: Request, arrivalIndex: number) {
    this.request = request;
    this.arrivalIndex = arrivalIndex;
    this.tokenIds = [...request.promptTokenIds];
    this.#sampling = gpuSamplingParams(request.sampling);
  }

  get promptLength(): number {
    return this.request.promptTokenIds.length;
  }

  /** Positions that plans cover, so also the next position to compute. */
  get numComputed(): number {
    return this.#numComputed;
  }

  /** Prefill still to be planned. */
  get numPrefillLeft(): number {
    return Math.max(0, this.#prefillLength - this.#numComputed);
  }

  /** A decode would bring a token that is wanted, as far as is known before those in flight return. */
  get canDecode(): boolean {
    const numCompletion = this.tokenIds.length - this.promptLength + this.#numPending;
    const isPrefilled = this.numPrefillLeft === 0;
    return this.status === "running" && isPrefilled && numCompletion < this.request.maxTokens;
  }

  /** Takes a slot. After a preemption the known completion is prefilled like a longer prompt. */
  admit(slot: number): void {
    this.status = "running";
    this.slot = slot;
    this.#prefillLength = this.tokenIds.length;
    this.#numComputed = 0;
  }

  /** Plans the next numTokens tokens: a prefill chunk, or one decode. */
  plan(numTokens: number, stepIndex: number): ScheduledSequence {
    const start = this.#numComputed;
    const end = start + numTokens;
    const isDecode = this.numPrefillLeft === 0;
    const samples = end >= this.#prefillLength;
    this.#numComputed = end;
    this.numPlansInFlight += 1;
    if (samples) {
      this.#numPending += 1;
      this.lastSampledStep = stepIndex;
    }
    return {
      slot: this.slot,
      isFirst: start === 0,
      startPosition: start,
      numTokens,
      tokenIds: isDecode ? null : this.tokenIds.slice(start, end),
      blockTable: [...this.blockTable],
      promptLength: this.promptLength,
      samples,
      sampling: this.#sampling,
      samplePosition: end,
    };
  }

  /** One of its plans returned; `tokenId` is what that plan sampled. False if the sequence had ended before. */
  settle(tokenId: number | undefined): boolean {
    this.numPlansInFlight -= 1;
    if (tokenId === undefined) return false;
    this.#numPending -= 1;
    if (this.status === "finished") return false;
    this.tokenIds.push(tokenId);
    if (this.request.stopTokenIds.has(tokenId)) this.finish("stop");
    else if (this.tokenIds.length - this.promptLength === this.request.maxTokens) {
      this.finish("length");
    }
    return true;
  }

  finish(reason: Exclude<FinishReason, null>): void {
    this.status = "finished";
    this.finishReason = reason;
  }
}
