/** Drives the executor: takes requests at any time, keeps plans in flight, hands out tokens. */
import { TandemError, UsageError, WorkerError, messageOf } from "../common/errors.ts";
import type { SpanMore, Tracer } from "../common/trace.ts";
import type { EngineOptions, EngineRequest } from "./engineOptions.ts";
import type { Executor } from "./executor/executor.ts";
import { Lookahead } from "./lookahead.ts";
import { createRequest } from "./request.ts";
import { RequestStream } from "./requestStream.ts";
import { forkSamplingParams, resolveSamplingParams } from "./samplingParams.ts";
import { Scheduler } from "./scheduler.ts";
import type { SampledToken, SchedulerStats } from "./schedulerReports.ts";
import type { StepOutput, StepPlan } from "./stepPlan.ts";
import type { TextCodec } from "./textCodec.ts";

export type { EngineOptions, EngineRequest } from "./engineOptions.ts";

interface StepInFlight {
  readonly plan: StepPlan;
  readonly output: Promise<StepOutput>;
  /** Steps submitted together, of which this is the last; 0: others of its burst follow. */
  readonly numEnded: number;
}

/** Runs many requests at once over one executor. */
export class Engine {
  readonly #executor: Executor;
  readonly #codec: TextCodec;
  readonly #options: EngineOptions;
  readonly #scheduler: Scheduler;
  readonly #streams = new Map<string, RequestStream>(); // by request id, until finished
  readonly #inFlight: StepInFlight[] = []; // oldest first
  readonly #lookahead: Lookahead;
  readonly #now: () => number;
  readonly #failureListeners: ((error: Error) => void)[] = [];
  #numRequests = 0;
  #loop: Promise<void> | null = null; // null while there is no work
  #failure: Error | null = null; // set once; nothing is taken on after it
  #cacheEpoch = 0; // of the executor, when its cache was last trusted
  #isDead = false; // the executor failed
  #rejectStep: (error: Error) => void = () => undefined;
  #shutdown: Promise<void> | null = null;

  constructor(executor: Executor, codec: TextCodec, options: EngineOptions = {}) {
    this.#executor = executor;
    this.#codec = codec;
    this.#options = options;
    this.#scheduler = new Scheduler(executor.limits, options.scheduler);
    this.#lookahead = new Lookahead(executor.limits);
    this.#now = options.now ?? ((): number => performance.now());
    this.#cacheEpoch = executor.cacheEpoch ?? 0;
    executor.onFailure?.((error) => {
      this.#fail(error);
    });
  }

  get stats(): SchedulerStats {
    return this.#scheduler.stats;
  }

  /** What every request fails with since the executor failed or the engine was shut down; else null. */
  get failure(): Error | null {
    return this.#failure;
  }

  /** Calls `listener` once the executor has failed, also while no request runs; at once if it has. */
  onFailure(listener: (error: Error) => void): void {
    if (this.#isDead && this.#failure !== null) listener(this.#failure);
    else this.#failureListeners.push(listener);
  }

  /** Queues a request; throws a PromptError or UsageError if it can never run. */
  addRequest({ sampling, echo, ...given }: EngineRequest): RequestStream {
    if (this.#failure !== null) throw this.#failure;
    const requestId = given.requestId ?? `request-${this.#numRequests}`;
    if (this.#streams.has(requestId)) {
      throw new UsageError({ what: "requestId", expected: "one not in use", got: requestId });
    }
    const { eosTokenIds } = this.#codec;
    const draft = { ...given, requestId, sampling: resolveSamplingParams(sampling), eosTokenIds };
    const request = createRequest(draft, this.#executor.limits);
    const decoder = this.#codec.streamDecoder({ context: request.promptTokenIds });
    const stream = new RequestStream(request, decoder, {
      now: this.#now,
      abandon: () => this.abort(requestId),
      ...(echo === true ? { echo: this.#textOf(request.promptTokenIds) } : {}),
    });
    this.#numRequests += 1;
    this.#scheduler.add(request); // may refuse its priority
    this.#streams.set(requestId, stream);
    this.#loop ??= this.#run();
    return stream;
  }

  /**
   * Queues n completions of one prompt, named requestId-0 to requestId-(n - 1). They compute the prompt
   * once and share its full blocks; choice i draws with seed + i. If one cannot run, none does.
   */
  addFork(request: EngineRequest, n: number): RequestStream[] {
    const params = resolveSamplingParams(request.sampling);
    const base = request.requestId ?? `request-${this.#numRequests}`;
    const streams: RequestStream[] = [];
    try {
      for (let index = 0; index < n; index++) {
        const sampling = forkSamplingParams(params, index);
        const leader = index === 0 ? {} : { leaderId: `${base}-0` };
        const requestId = `${base}-${index}`;
        streams.push(this.addRequest({ ...request, ...leader, sampling, requestId }));
      }
    } catch (error) {
      for (const { requestId } of streams) this.abort(requestId);
      throw error;
    }
    return streams;
  }

  /** Ends a request at once with finishReason `abort`; false if it is not running any more. */
  abort(requestId: string): boolean {
    const stream = this.#streams.get(requestId);
    if (stream === undefined) return false;
    this.#streams.delete(requestId);
    this.#scheduler.abort(requestId);
    stream.abort();
    this.#options.onFinish?.(stream);
    return true;
  }

  /** Forgets the cached prefixes that no request uses; needed after the KV cache was used otherwise. */
  resetPrefixCache(): void {
    this.#scheduler.resetPrefixCache();
  }

  /** One step: plan as far ahead as allowed, wait for the oldest plan, hand out its tokens. */
  async step(): Promise<void> {
    const isFilled = this.#fillPipeline();
    const oldest = this.#inFlight[0];
    if (oldest === undefined) {
      if (isFilled || !this.#scheduler.hasWork) return;
      throw new TandemError("engine: requests wait, but none can be planned");
    }
    const output = await new Promise<StepOutput>((resolve, reject) => {
      this.#rejectStep = reject;
      oldest.output.then(resolve, reject);
    });
    const beginMs = performance.now();
    this.#inFlight.shift();
    if (oldest.numEnded > 0) this.#lookahead.returned(this.#now(), oldest.numEnded);
    for (const token of this.#scheduler.postprocess(output)) this.#deliver(token);
    this.#takeEvents();
    this.#options.tracer?.span("host", "postprocess", beginMs, stepArgs(oldest.plan));
    this.#options.onStep?.(oldest.plan, output);
  }

  /** Aborts what runs, waits for the plans in flight, stops the executor. Safe to call again. */
  shutdown(): Promise<void> {
    this.#shutdown ??= this.#stop();
    return this.#shutdown;
  }

  // Prompts that ran past the engine, as `verify` runs them, overwrote whatever was cached.
  #checkCache(): void {
    const epoch = this.#executor.cacheEpoch ?? 0;
    if (epoch !== this.#cacheEpoch) this.resetPrefixCache();
    this.#cacheEpoch = epoch;
  }

  // True if anything happened.
  #fillPipeline(): boolean {
    this.#checkCache();
    let isFilled = false;
    for (;;) {
      const beginMs = performance.now();
      const plans = this.#nextPlans();
      if (this.#takeEvents()) isFilled = true;
      const [first] = plans;
      if (first === undefined) return isFilled;
      isFilled = true;
      this.#options.tracer?.span("host", "schedule", beginMs, stepArgs(first));
      for (const [index, plan] of plans.entries()) {
        this.#hand(plan, index === plans.length - 1 ? plans.length : 0);
      }
    }
  }

  // One step, or several that are submitted together; none while nothing can run, or should yet.
  #nextPlans(): StepPlan[] {
    const { burstSteps, minBeforeBurst, maxBeforeBurst, maxPlans } = this.#lookahead;
    const numPlans = this.#inFlight.length;
    const isBurstTime = burstSteps > 1 && numPlans >= minBeforeBurst;
    if (isBurstTime && this.#scheduler.mayBurst(burstSteps)) {
      return numPlans <= maxBeforeBurst ? this.#scheduler.scheduleBurst(burstSteps) : [];
    }
    const plan = this.#scheduler.schedule(maxPlans);
    return plan === null ? [] : [plan];
  }

  #hand(plan: StepPlan, numEnded: number): void {
    const { tracer } = this.#options;
    const handedMs = performance.now(); // a rank may begin before `execute` returns
    const output = this.#executor.execute(plan);
    if (tracer !== undefined) traceStep(tracer, plan, output, handedMs);
    // Awaited in turn; if an earlier plan fails first, nobody will look at this one's rejection.
    output.catch(() => undefined);
    this.#inFlight.push({ plan, output, numEnded });
  }

  #takeEvents(): boolean {
    const events = this.#scheduler.takeEvents();
    for (const event of events) {
      const stream = this.#streams.get(event.requestId);
      if (event.kind === "admitted") stream?.admitted(event.numCachedTokens);
      else {
        this.#streams.delete(event.requestId);
        stream?.fail(event.cause);
      }
    }
    return events.length > 0;
  }

  #deliver(token: SampledToken): void {
    const { requestId } = token;
    const stream = this.#streams.get(requestId);
    if (stream === undefined) return;
    const elapsedMs = stream.push(token);
    this.#options.onToken?.(stream, elapsedMs);
    const { finishReason, stopReason } = stream;
    if (finishReason === null) return;
    // A stop string: only the text shows it.
    if (token.finishReason === null) this.#scheduler.finish(requestId, finishReason, stopReason);
    this.#streams.delete(requestId);
    this.#options.onFinish?.(stream);
  }

  #textOf(tokenIds: readonly number[]): string {
    const decoder = this.#codec.streamDecoder();
    return tokenIds.map((tokenId) => decoder.push(tokenId)).join("") + decoder.end();
  }

  async #run(): Promise<void> {
    await Promise.resolve(); // requests that are added in one go start in one step
    try {
      while (!this.#isDead && this.#scheduler.hasWork) await this.step();
    } catch (error) {
      this.#fail(error instanceof Error ? error : new WorkerError(messageOf(error)));
    }
    this.#lookahead.rested();
    this.#loop = null;
  }

  #fail(cause: Error): void {
    if (this.#isDead) return;
    this.#isDead = true;
    this.#failure ??= cause;
    this.#options.log?.error(() => `all requests fail: ${cause.message}`);
    for (const stream of this.#streams.values()) stream.fail(cause);
    this.#streams.clear();
    this.#inFlight.length = 0;
    this.#rejectStep(cause);
    for (const listener of this.#failureListeners.splice(0)) listener(cause);
  }

  async #stop(): Promise<void> {
    this.#failure ??= new UsageError("engine: it was shut down");
    for (const requestId of [...this.#streams.keys()]) this.abort(requestId);
    await this.#loop;
    await this.#executor.shutdown();
  }
}

function stepArgs({ stepIndex, sequences }: StepPlan): SpanMore {
  return { args: { step: stepIndex, sequences: sequences.length } };
}

function traceStep(
  tracer: Tracer,
  plan: StepPlan,
  output: Promise<StepOutput>,
  beginMs: number,
): void {
  const ended = (): void => {
    tracer.span("steps", `step ${plan.stepIndex}`, beginMs, stepArgs(plan));
  };
  output.then(ended, () => undefined);
}
