/**
 * Decides what each step computes: continuous batching over a token budget, first come first served.
 * Bookkeeping only. `schedule` may run ahead of `postprocess` by maxInFlight plans: a decode is planned
 * before the token that it reads is known, and a sequence's blocks are freed only after every plan that
 * uses them has returned.
 */
import { TandemError, WorkerError } from "../common/errors.ts";
import { BlockManager } from "./blockManager.ts";
import type { ExecutorLimits } from "./executor/executor.ts";
import type { FinishReason, Request } from "./request.ts";
import { checkLimits } from "./schedulerLimits.ts";
import { Sequence } from "./sequence.ts";
import type { ScheduledSequence, StepOutput, StepPlan } from "./stepPlan.ts";

/** A token that belongs to a request, in the order sampled. */
export interface SampledToken {
  readonly requestId: string;
  readonly tokenId: number;
  readonly finishReason: FinishReason;
}

/** The scheduler's state in numbers, for metrics and tests. */
export interface SchedulerStats {
  readonly numWaiting: number;
  readonly numRunning: number;
  /** Finished or preempted, with blocks that plans in flight still use. */
  readonly numDraining: number;
  readonly numPlansInFlight: number;
  readonly numUsedBlocks: number;
  /** Since the start. */
  readonly numPreemptions: number;
}

interface Part {
  readonly sequence: Sequence;
  readonly scheduled: ScheduledSequence;
}

// One step in the making.
interface Batch {
  readonly stepIndex: number;
  readonly parts: Part[];
  dependsOnStep: number;
  numTokensLeft: number;
}

interface PlanInFlight {
  readonly stepIndex: number;
  readonly parts: readonly Part[];
}

/** FCFS scheduler with chunked prefill and preemption by recompute. */
export class Scheduler {
  readonly limits: ExecutorLimits;
  readonly #blocks: BlockManager;
  readonly #freeSlots: number[];
  readonly #sequences = new Map<string, Sequence>(); // by request id, until finished
  #waiting: Sequence[] = []; // by arrivalIndex
  #running: Sequence[] = []; // by arrivalIndex
  readonly #draining = new Set<Sequence>();
  readonly #inFlight: PlanInFlight[] = []; // oldest first
  #numArrivals = 0;
  #nextStepIndex = 0;
  #numPreemptions = 0;

  constructor(limits: ExecutorLimits) {
    checkLimits(limits);
    this.limits = limits;
    this.#blocks = new BlockManager(limits.numBlocks, limits.blockSize);
    this.#freeSlots = Array.from(
      { length: limits.maxNumSeqs },
      (_, i) => limits.maxNumSeqs - 1 - i,
    );
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
      numUsedBlocks: this.#blocks.numUsed,
      numPreemptions: this.#numPreemptions,
    };
  }

  add(request: Request): void {
    const sequence = new Sequence(request, this.#numArrivals++);
    this.#sequences.set(request.requestId, sequence);
    this.#waiting.push(sequence);
  }

  /** Ends a request at once; false if there is none of that name. Its tokens in flight are dropped. */
  abort(requestId: string): boolean {
    const sequence = this.#sequences.get(requestId);
    if (sequence === undefined) return false;
    sequence.finish("abort");
    this.#retire(sequence);
    return true;
  }

  /** The next step, or null if nothing can run before a plan in flight returns (or a request comes). */
  schedule(): StepPlan | null {
    if (this.#inFlight.length >= this.limits.maxInFlight) return null;
    const stepIndex = this.#nextStepIndex;
    const numTokensLeft = this.limits.maxNumBatchedTokens;
    const batch: Batch = { stepIndex, parts: [], dependsOnStep: -1, numTokensLeft };
    this.#planDecodes(batch);
    this.#planPrefills(batch);
    this.#admitWaiting(batch);
    if (batch.parts.length === 0) return null;
    this.#nextStepIndex += 1;
    // The sort is stable: decodes stay in front of chunks of one token.
    const parts = batch.parts.sort((a, b) => sortKey(a) - sortKey(b));
    this.#inFlight.push({ stepIndex, parts });
    const sequences = parts.map(({ scheduled }) => scheduled);
    return { stepIndex, sequences, dependsOnStep: batch.dependsOnStep };
  }

  /** Takes the oldest plan's output; returns its tokens, less those sampled after a stop or an abort. */
  postprocess(output: StepOutput): SampledToken[] {
    const tokenIds = this.#checkOutput(output);
    const { parts } = this.#inFlight.shift() ?? { parts: [] };
    const tokens: SampledToken[] = [];
    for (const { sequence, scheduled } of parts) {
      const tokenId = scheduled.samples ? tokenIds.shift() : undefined;
      const isWanted = sequence.settle(tokenId);
      this.#retire(sequence);
      if (tokenId === undefined || !isWanted) continue;
      const { finishReason, request } = sequence;
      tokens.push({ requestId: request.requestId, tokenId, finishReason });
    }
    return tokens;
  }

  // Decodes come first: each costs one token and somebody waits for it. The budget holds them all, since
  // maxNumSeqs <= maxNumBatchedTokens.
  #planDecodes(batch: Batch): void {
    for (const sequence of [...this.#running]) {
      if (!sequence.canDecode || !this.#growForDecode(sequence)) continue;
      batch.dependsOnStep = Math.max(batch.dependsOnStep, sequence.lastSampledStep);
      plan(batch, sequence, 1);
    }
  }

  // Blocks for the whole prefill were taken on admission, so a chunk never waits for one.
  #planPrefills(batch: Batch): void {
    for (const sequence of this.#running) {
      const numTokens = Math.min(sequence.numPrefillLeft, batch.numTokensLeft);
      if (numTokens > 0) plan(batch, sequence, numTokens);
    }
  }

  #admitWaiting(batch: Batch): void {
    while (batch.numTokensLeft > 0) {
      const [next] = this.#waiting;
      // One being preempted came before all that wait: it must be back in the queue first.
      if (next === undefined || this.#isPreempting()) return;
      // Every running sequence may soon want one more block: leave it, rather than preempt this one then.
      const numNeeded = this.#blocks.numBlocksFor(next.tokenIds.length) + this.#running.length;
      if (this.#freeSlots.length === 0 || numNeeded > this.#blocks.numFree) return;
      this.#waiting.shift();
      next.admit(this.#freeSlots.pop() ?? -1);
      this.#blocks.grow(next.blockTable, next.tokenIds.length);
      this.#running.push(next);
      plan(batch, next, Math.min(next.numPrefillLeft, batch.numTokensLeft));
    }
  }

  // Room for one more token, if need be by preempting the youngest, which has lost the least.
  #growForDecode(sequence: Sequence): boolean {
    while (!this.#blocks.grow(sequence.blockTable, sequence.numComputed + 1)) {
      if (this.#draining.size > 0) return false; // blocks are on their way back
      const youngest = this.#running.at(-1) ?? sequence;
      this.#preempt(youngest);
      if (youngest === sequence) return false;
    }
    return true;
  }

  #preempt(sequence: Sequence): void {
    sequence.status = "preempting";
    this.#numPreemptions += 1;
    this.#retire(sequence);
  }

  #isPreempting(): boolean {
    return [...this.#draining].some(({ status }) => status === "preempting");
  }

  // Takes a sequence that is no longer to run off the lists; once no plan uses it, frees what it holds.
  #retire(sequence: Sequence): void {
    const { status, request } = sequence;
    if (status === "waiting" || status === "running") return;
    this.#running = this.#running.filter((other) => other !== sequence);
    this.#waiting = this.#waiting.filter((other) => other !== sequence);
    // By now another request may bear the name of one that was aborted.
    const isNamed = this.#sequences.get(request.requestId) === sequence;
    if (status === "finished" && isNamed) this.#sequences.delete(request.requestId);
    if (sequence.numPlansInFlight > 0) {
      this.#draining.add(sequence);
      return;
    }
    this.#draining.delete(sequence);
    this.#blocks.release(sequence.blockTable);
    if (sequence.slot >= 0) this.#freeSlots.push(sequence.slot);
    sequence.slot = -1;
    if (status === "preempting") this.#enqueue(sequence);
  }

  #enqueue(sequence: Sequence): void {
    sequence.status = "waiting";
    this.#waiting.push(sequence);
    this.#waiting.sort((a, b) => a.arrivalIndex - b.arrivalIndex);
  }

  #checkOutput({ stepIndex, tokenIds }: StepOutput): number[] {
    const oldest = this.#inFlight[0];
    if (oldest === undefined) throw new TandemError(`step ${stepIndex}: no plan is in flight`);
    const numSamples = oldest.parts.filter(({ scheduled }) => scheduled.samples).length;
    if (stepIndex !== oldest.stepIndex || tokenIds.length !== numSamples) {
      const expected = `step ${oldest.stepIndex} with ${numSamples} tokens`;
      throw new WorkerError(
        `step output: expected ${expected}, got step ${stepIndex} with ${tokenIds.length}`,
      );
    }
    const { vocabSize } = this.limits;
    const wild = tokenIds.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
    if (wild === undefined) return [...tokenIds];
    throw new WorkerError(
      `step ${stepIndex}: expected sampled ids from 0 to ${vocabSize - 1}, got ${wild}`,
    );
  }
}

function plan(batch: Batch, sequence: Sequence, numTokens: number): void {
  batch.parts.push({ sequence, scheduled: sequence.plan(numTokens, batch.stepIndex) });
  batch.numTokensLeft -= numTokens;
}

function sortKey({ scheduled }: Part): number {
  return scheduled.numTokens === 1 ? 0 : 1;
}
