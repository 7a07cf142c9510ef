/**
 * Decides what each step computes: continuous batching over a token budget, by priority and arrival.
 * Bookkeeping only. `schedule` may run ahead of `postprocess` by maxInFlight plans: a decode is planned
 * before the token that it reads is known, and a sequence's blocks are freed only after every plan that
 * uses them has returned.
 */
import { UsageError, WorkerError } from "../common/errors.ts";
import { Batch } from "./batch.ts";
import { burstOf, canBurst } from "./bursts.ts";
import type { ExecutorLimits } from "./executor/executor.ts";
import { KvBlocks } from "./kvBlocks.ts";
import { chooseDecodes, decodeSpread, prefillShare } from "./microBatches.ts";
import { PipelineMeter } from "./pipelineMeter.ts";
import { PlansInFlight, type ReturnedPart } from "./plansInFlight.ts";
import type { FinishReason, Request, StopReason } from "./request.ts";
import { checkLimits, checkPolicy, resolveSchedulerOptions } from "./schedulerLimits.ts";
import type { ResolvedSchedulerOptions, SchedulerOptions } from "./schedulerLimits.ts";
import type { SampledToken, SchedulerEvent, SchedulerStats } from "./schedulerReports.ts";
import { Sequence } from "./sequence.ts";
import type { StepOutput, StepPlan } from "./stepPlan.ts";
import { compareRank, isAwaitingLeader, WaitingQueue } from "./waitingQueue.ts";

/** Continuous batching with chunked prefill, prefix caching, and preemption by recompute. */
export class Scheduler {
  readonly limits: ExecutorLimits;
  readonly #options: ResolvedSchedulerOptions;
  readonly #ppSize: number;
  readonly #blocks: KvBlocks;
  readonly #meter: PipelineMeter;
  readonly #freeSlots: number[];
  readonly #sequences = new Map<string, Sequence>(); // by request id, until finished
  readonly #waiting: WaitingQueue;
  #running: Sequence[] = []; // by rank
  readonly #draining = new Set<Sequence>();
  readonly #inFlight: PlansInFlight;
  readonly #events: SchedulerEvent[] = [];
  #numArrivals = 0;
  #nextStepIndex = 0;
  #numPreemptions = 0;
  #prefillShare = 0;

  constructor(limits: ExecutorLimits, options: SchedulerOptions = {}) {
    checkLimits(limits);
    this.limits = limits;
    this.#options = resolveSchedulerOptions(options, limits);
    this.#ppSize = limits.ppSize ?? 1;
    this.#blocks = new KvBlocks(limits, this.#options.enablePrefixCaching);
    this.#meter = new PipelineMeter(this.#ppSize);
    this.#waiting = new WaitingQueue(this.#options.maxOvertakes);
    this.#inFlight = new PlansInFlight(limits.vocabSize);
    this.#freeSlots = [...Array(limits.maxNumSeqs).keys()].reverse();
  }

  /** A request waits, runs, or has plans in flight. */
  get hasWork(): boolean {
    return this.#sequences.size > 0 || this.#inFlight.length > 0;
  }

  get stats(): SchedulerStats {
    return {
      numWaiting: this.#waiting.length,
      numRunning: this.#running.length,
      numDraining: this.#draining.size,
      numPlansInFlight: this.#inFlight.length,
      ...this.#blocks.stats,
      numPreemptions: this.#numPreemptions,
      bubbleFraction: this.#meter.bubbleFraction,
    };
  }

  add(request: Request): void {
    checkPolicy(this.#options.schedulingPolicy, request.priority);
    const leader = request.leaderId === null ? null : this.#sequences.get(request.leaderId);
    const sequence = new Sequence(request, this.#numArrivals++, leader ?? null);
    this.#sequences.set(request.requestId, sequence);
    this.#waiting.add(sequence);
  }

  /** Ends a request at once; false if there is none of that name. Its tokens in flight are dropped. */
  abort(requestId: string): boolean {
    return this.finish(requestId, "abort", null);
  }

  /** The same for another reason, such as a stop string, which only text shows. */
  finish(
    requestId: string,
    reason: Exclude<FinishReason, null>,
    stopReason: StopReason = null,
  ): boolean {
    const sequence = this.#sequences.get(requestId);
    if (sequence === undefined) return false;
    sequence.finish(reason, stopReason);
    this.#retire(sequence);
    return true;
  }

  /** What happened since the last call, besides tokens. */
  takeEvents(): SchedulerEvent[] {
    return this.#events.splice(0);
  }

  /** Forgets the cached prefixes that no request uses; needed after the KV cache was used otherwise. */
  resetPrefixCache(): void {
    this.#blocks.dropCached();
  }

  /** The next step, or null if nothing can run before one of so many plans returns (or a request comes). */
  schedule(maxInFlight = this.limits.maxInFlight): StepPlan | null {
    return this.#inFlight.numSubmits < maxInFlight ? this.#next(false) : null;
  }

  /** The next so many steps can be planned now and submitted together. */
  mayBurst(numSteps: number): boolean {
    return this.#waiting.length === 0 && canBurst(this.#running, this.#blocks, numSteps);
  }

  /** So many steps to be submitted together, one more than maxInFlight if need be; `mayBurst` said yes. */
  scheduleBurst(numSteps: number): StepPlan[] {
    if (this.#inFlight.numSubmits > this.limits.maxInFlight) return [];
    return burstOf(Array.from({ length: numSteps }, (_, i) => this.#next(i > 0)));
  }

  #next(follows: boolean): StepPlan | null {
    const numRunning = this.#running.length;
    const batch = this.#newBatch(this.#nextStepIndex);
    this.#planDecodes(batch);
    this.#planPrefills(batch);
    this.#admitWaiting(batch);
    const { parts, plan } = batch;
    // Whoever was preempted may have left room for another.
    if (parts.length === 0) return this.#running.length < numRunning ? this.#next(follows) : null;
    this.#nextStepIndex += 1;
    this.#inFlight.add(plan.stepIndex, parts, follows);
    this.#meter.planned(plan.stepIndex, plan.dependsOnStep);
    // Not before: blocks that this step fills can be read by the next one, not by its own parts.
    for (const { sequence } of parts) this.#blocks.register(sequence);
    return plan;
  }

  /** Takes the oldest plan's output; returns its tokens, less those sampled after a stop or an abort. */
  postprocess(output: StepOutput): SampledToken[] {
    const parts = this.#inFlight.take(output);
    this.#meter.returned(output.stepIndex);
    const tokens: SampledToken[] = [];
    for (const part of parts) {
      const token = this.#settle(part);
      if (token !== null) tokens.push(token);
    }
    return tokens;
  }

  #settle(part: ReturnedPart): SampledToken | null {
    const { sequence, tokenId, logprobs, promptLogprobs } = part;
    const isFirst = sequence.numCompletion === 0;
    const isWanted = sequence.settle({ tokenId, promptLogprobs: promptLogprobs ?? [] });
    const isLacking = logprobs === null || promptLogprobs === null;
    if (isLacking && (sequence.finishReason === null || isWanted)) {
      this.#fail(sequence, new WorkerError("logprobs: expected some, the executor gave none"));
    } else this.#retire(sequence);
    if (tokenId === undefined || !isWanted || isLacking) return null;
    const { finishReason, stopReason, request } = sequence;
    const { requestId, sampling } = request;
    const wantsPrompt = isFirst && sampling.promptLogprobs !== null;
    return {
      requestId,
      tokenId,
      finishReason,
      stopReason,
      logprobs: logprobs ?? null,
      promptLogprobs: wantsPrompt ? [null, ...sequence.promptLogprobs] : null,
    };
  }

  #newBatch(stepIndex: number): Batch {
    const { maxNumBatchedTokens: numTokens } = this.limits;
    if (this.#ppSize > 1) {
      const numRunning = this.#running.reduce((sum, { numPrefillLeft }) => sum + numPrefillLeft, 0);
      const numPrefill = numRunning + this.#waiting.numTokens(numTokens * this.#ppSize);
      this.#prefillShare = prefillShare(this.#prefillShare, numPrefill, this.#ppSize);
    }
    return new Batch(stepIndex, {
      numTokens,
      numPrefillTokens: this.#ppSize > 1 ? this.#prefillShare : numTokens,
      numPrefillTokensEach: this.#options.longPrefillTokenThreshold,
      numLogitRows: this.limits.maxNumSeqs,
    });
  }

  // Decodes come first: each costs one token and somebody waits for it. The budget holds them all, since
  // maxNumSeqs <= maxNumBatchedTokens.
  #planDecodes(batch: Batch): void {
    const spread = decodeSpread(this.limits, this.#running);
    for (const sequence of chooseDecodes(this.#running, batch.stepIndex, spread)) {
      if (sequence.canDecode && this.#growForDecode(sequence)) this.#plan(batch, sequence, 1);
    }
  }

  // Blocks for the whole prefill were taken on admission, so a chunk never waits for one.
  #planPrefills(batch: Batch): void {
    for (const sequence of this.#running) {
      const numTokens = batch.chunkOf(sequence.numPrefillLeft, sequence.wantsPromptLogprobs);
      if (numTokens > 0) this.#plan(batch, sequence, numTokens);
    }
  }

  // Strictly by rank: if the first cannot run, the next may not take what it waits for.
  #admitWaiting(batch: Batch): void {
    const isReady = (sequence: Sequence): boolean => !isAwaitingLeader(sequence, batch.stepIndex);
    while (this.#freeSlots.length > 0 && batch.chunkOf(1, false) > 0) {
      const next = this.#waiting.first(isReady);
      if (next === undefined) return;
      if (this.#isPreemptingBefore(next)) return;
      const match = this.#blocks.match(next);
      const numPrefill = next.tokenIds.length - this.#blocks.numTokensOf(match);
      const numTokens = batch.chunkOf(numPrefill, next.wantsPromptLogprobs);
      if (numTokens < numPrefill && this.#hasMostPartialPrefills()) return;
      // Every running sequence may soon want one more block: leave it, rather than preempt this one then.
      if (!this.#blocks.admits(next, match, this.#running.length)) return;
      this.#blocks.give(next, match);
      this.#admit(next, this.#blocks.numTokensOf(match));
      this.#plan(batch, next, numTokens);
    }
  }

  #admit(sequence: Sequence, numCachedTokens: number): void {
    const { requestId } = sequence.request;
    if (sequence.numCachedTokens === null) {
      this.#events.push({ kind: "admitted", requestId, numCachedTokens });
    }
    this.#waiting.admit(sequence);
    sequence.admit(this.#freeSlots.pop() ?? -1, numCachedTokens);
    this.#running.push(sequence);
    this.#running.sort(compareRank);
  }

  #hasMostPartialPrefills(): boolean {
    const numPartial = this.#running.filter(({ numPrefillLeft }) => numPrefillLeft > 0).length;
    return numPartial >= this.#options.maxNumPartialPrefills;
  }

  #plan(batch: Batch, sequence: Sequence, numTokens: number): void {
    try {
      batch.add(sequence, numTokens, this.limits.vocabSize);
    } catch (error) {
      this.#fail(sequence, error); // its mask of allowed tokens could not be made
    }
  }

  // Room for one more token, if need be by preempting the last by rank: among equals the youngest, which
  // has lost the least.
  #growForDecode(sequence: Sequence): boolean {
    while (!this.#blocks.grow(sequence)) {
      if (this.#draining.size > 0) return false; // blocks are on their way back
      const last = this.#running.at(-1) ?? sequence;
      last.status = "preempting";
      this.#numPreemptions += 1;
      this.#retire(last);
      if (last === sequence) return false;
    }
    return true;
  }

  // One on its way back to the queue comes before `next`.
  #isPreemptingBefore(next: Sequence): boolean {
    return [...this.#draining].some(
      (sequence) => sequence.status === "preempting" && compareRank(sequence, next) < 0,
    );
  }

  #fail(sequence: Sequence, error: unknown): void {
    const { requestId } = sequence.request;
    const cause = error instanceof Error ? error : new UsageError(String(error));
    this.#events.push({ kind: "failed", requestId, cause });
    sequence.finish("abort");
    this.#retire(sequence);
  }

  // Takes a sequence that is no longer to run off the lists; once no plan uses it, frees what it holds.
  #retire(sequence: Sequence): void {
    this.#blocks.register(sequence);
    const { status, request } = sequence;
    if (status === "waiting" || status === "running") return;
    this.#running = this.#running.filter((other) => other !== sequence);
    this.#waiting.remove(sequence);
    // By now another request may bear the name of one that was aborted.
    const isNamed = this.#sequences.get(request.requestId) === sequence;
    if (status === "finished" && isNamed) this.#sequences.delete(request.requestId);
    if (sequence.numPlansInFlight > 0) {
      this.#draining.add(sequence);
      return;
    }
    this.#draining.delete(sequence);
    this.#blocks.release(sequence);
    if (sequence.slot >= 0) this.#freeSlots.push(sequence.slot);
    sequence.slot = -1;
    if (status !== "preempting") return;
    sequence.status = "waiting";
    this.#waiting.add(sequence);
  }
}
