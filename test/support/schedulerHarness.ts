/** Drives a Scheduler by hand, over SimulatedModel, checking what every driver may rely on. */
import { expect } from "vitest";
import type { ExecutorLimits } from "../../src/runtime/executor/executor.ts";
import type { Request } from "../../src/runtime/request.ts";
import { Scheduler } from "../../src/runtime/scheduler.ts";
import type { SampledToken } from "../../src/runtime/schedulerReports.ts";
import type { SchedulerOptions } from "../../src/runtime/schedulerLimits.ts";
import type { ScheduledSequence, StepPlan } from "../../src/runtime/stepPlan.ts";
import { PlanChecker } from "./planChecker.ts";
import { simulatedLogprobs, SimulatedModel } from "./simulatedModel.ts";

/** The model runs a plan only when its output is taken. In FCFS order seeds must rise with arrivals. */
export class Harness {
  readonly scheduler: Scheduler;
  readonly checker: PlanChecker;
  readonly completions = new Map<string, number[]>();
  readonly finished = new Set<string>();
  readonly #model: SimulatedModel;
  readonly #plans: { readonly plan: StepPlan; readonly asMade: StepPlan }[] = [];
  readonly #admitted = new Set<number>(); // seeds, which stand for the order of arrival

  readonly #requests = new Map<string, Request>();
  #isFcfs = true;

  constructor(limits: ExecutorLimits, options: SchedulerOptions = {}) {
    this.scheduler = new Scheduler(limits, { schedulingPolicy: "priority", ...options });
    this.checker = new PlanChecker(limits);
    this.#model = new SimulatedModel(limits);
  }

  add(request: Request): void {
    if (request.priority !== 0 || request.leaderId !== null) this.#isFcfs = false;
    this.completions.set(request.requestId, []);
    this.#requests.set(request.requestId, request);
    this.scheduler.add(request);
  }

  schedule(): boolean {
    const plan = this.scheduler.schedule();
    if (plan === null) return false;
    this.#planned(plan);
    return true;
  }

  /** A burst, if one can be planned. */
  burst(): void {
    const { burstSteps = 1, ppSize = 1 } = this.scheduler.limits;
    if (burstSteps === 1 || ppSize > 1 || !this.scheduler.mayBurst(burstSteps)) return;
    const plans = this.scheduler.scheduleBurst(burstSteps);
    expect([0, burstSteps]).toContain(plans.length);
    for (const plan of plans) this.#planned(plan);
  }

  #planned(plan: StepPlan): void {
    this.checker.planned(plan);
    this.#plans.push({ plan, asMade: structuredClone(plan) });
    if (this.#isFcfs) this.#checkOrder(plan);
  }

  takeOutput(): boolean {
    const { plan, asMade } = this.#plans.shift() ?? {};
    if (plan === undefined) return false;
    expect(plan, "a plan changed while it was in flight").toEqual(asMade);
    const tokens = this.scheduler.postprocess(this.#model.run(plan));
    this.checker.returned();
    for (const token of tokens) {
      const { requestId, tokenId, finishReason } = token;
      expect(this.finished.has(requestId), "a token after the end").toBe(false);
      this.#checkLogprobs(token);
      this.completions.get(requestId)?.push(tokenId);
      if (finishReason !== null) this.finished.add(requestId);
    }
    return true;
  }

  #checkLogprobs({ requestId, tokenId, logprobs, promptLogprobs }: SampledToken): void {
    const request = this.#requests.get(requestId);
    const { logprobs: numTop = null, promptLogprobs: numPromptTop = null } =
      request?.sampling ?? {};
    const prompt = request?.promptTokenIds ?? [];
    const numBefore = this.completions.get(requestId)?.length ?? 0;
    const position = prompt.length + numBefore;
    expect(logprobs).toEqual(numTop === null ? null : simulatedLogprobs(tokenId, position, numTop));
    const ofPrompt = prompt.map((id, p) =>
      p > 0 ? simulatedLogprobs(id, p, numPromptTop ?? 0) : null,
    );
    expect(promptLogprobs).toEqual(numPromptTop === null || numBefore > 0 ? null : ofPrompt);
  }

  abort(requestId: string): boolean {
    const isAborted = this.scheduler.abort(requestId);
    if (isAborted) this.finished.add(requestId);
    return isAborted;
  }

  // First come, first served: whoever came later must be out by the time that this one gets in.
  #checkOrder({ sequences }: StepPlan): void {
    for (const { isFirst, sampling } of [...sequences].sort(bySeed)) {
      const isAdmitted = isFirst || this.#admitted.has(sampling.seed);
      expect(isAdmitted, "it overtook an earlier request").toBe(true);
      for (const other of this.#admitted) {
        if (isFirst && other > sampling.seed) this.#admitted.delete(other);
      }
      this.#admitted.add(sampling.seed);
    }
  }

  runToEnd(): void {
    for (let turn = 0; this.scheduler.hasWork; turn++) {
      if (turn % 4 > 0) this.burst();
      while (this.schedule());
      expect(this.takeOutput(), "work is left, but nothing runs").toBe(true);
      expect(turn).toBeLessThan(20_000);
    }
    const { numUsedBlocks, numWaiting, numRunning, numDraining } = this.scheduler.stats;
    expect([numUsedBlocks, numWaiting, numRunning, numDraining]).toEqual([0, 0, 0, 0]);
    this.checkBlocks();
  }

  checkBlocks(): void {
    const { numUsedBlocks, numCachedBlocks, numBlankBlocks } = this.scheduler.stats;
    const { numBlocks } = this.scheduler.limits;
    expect(numUsedBlocks + numCachedBlocks + numBlankBlocks, "used + cached + blank").toBe(
      numBlocks,
    );
  }
}

function bySeed(a: ScheduledSequence, b: ScheduledSequence): number {
  return a.sampling.seed - b.sampling.seed;
}
