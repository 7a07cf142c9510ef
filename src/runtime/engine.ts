/** Drives the executor: takes requests at any time, keeps plans in flight, hands out tokens. */
import { TandemError, UsageError, WorkerError, messageOf } from "../common/errors.ts";
import type { Logger } from "../common/logger.ts";
import type { Executor } from "./executor/executor.ts";
import { createRequest } from "./request.ts";
import { RequestStream } from "./requestStream.ts";
import { resolveSamplingParams, type SamplingOptions } from "./samplingParams.ts";
import { Scheduler, type SampledToken, type SchedulerStats } from "./scheduler.ts";
import type { StepOutput, StepPlan } from "./stepPlan.ts";
import type { TextCodec } from "./textCodec.ts";

/** Settings that have a default. */
export interface EngineOptions {
  readonly log?: Logger;
  /** Called after each step, for metrics. */
  readonly onStep?: (plan: StepPlan, output: StepOutput) => void;
  /** Milliseconds; `performance.now` unless a test brings its own. */
  readonly now?: () => number;
}

/** One request, tokenized. */
export interface EngineRequest {
  readonly promptTokenIds: readonly number[];
  readonly sampling?: SamplingOptions;
  /** Unique among the requests that run; one is made up if left out. */
  readonly requestId?: string;
}

interface StepInFlight {
  readonly plan: StepPlan;
  readonly output: Promise<StepOutput>;
}

/** Runs many requests at once over one executor. */
export class Engine {
  readonly #executor: Executor;
  readonly #codec: TextCodec;
  readonly #options: EngineOptions;
  readonly #scheduler: Scheduler;
  readonly #streams = new Map<string, RequestStream>(); // by request id, until finished
  readonly #inFlight: StepInFlight[] = []; // oldest first
  #numRequests = 0;
  #loop: Promise<void> | null = null; // null while there is no work
  #failure: Error | null = null; // set once; nothing runs after it
  #shutdown: Promise<void> | null = null;

  constructor(executor: Executor, codec: TextCodec, options: EngineOptions = {}) {
    this.#executor = executor;
    this.#codec = codec;
    this.#options = options;
    this.#scheduler = new Scheduler(executor.limits);
  }

  get stats(): SchedulerStats {
    return this.#scheduler.stats;
  }

  /** What every request fails with since the executor failed or the engine was shut down; else null. */
  get failure(): Error | null {
    return this.#failure;
  }

  /** Queues a request; throws a PromptError or UsageError if it can never run. */
  addRequest({ promptTokenIds, sampling, requestId }: EngineRequest): RequestStream {
    if (this.#failure !== null) throw this.#failure;
    const id = requestId ?? `request-${this.#numRequests}`;
    if (this.#streams.has(id)) {
      throw new UsageError({ what: "requestId", expected: "one not in use", got: id });
    }
    const { eosTokenIds } = this.#codec;
    const params = resolveSamplingParams(sampling);
    const draft = { requestId: id, promptTokenIds, sampling: params, eosTokenIds };
    const request = createRequest(draft, this.#executor.limits);
    const stream = new RequestStream(
      request,
      this.#codec.streamDecoder({ context: promptTokenIds }),
      {
        now: this.#options.now ?? ((): number => performance.now()),
        abandon: () => this.abort(id),
      },
    );
    this.#numRequests += 1;
    this.#streams.set(id, stream);
    this.#scheduler.add(request);
    this.#loop ??= this.#run();
    return stream;
  }

  /** Ends a request at once with finishReason `abort`; false if it is not running any more. */
  abort(requestId: string): boolean {
    const stream = this.#streams.get(requestId);
    if (stream === undefined) return false;
    this.#streams.delete(requestId);
    this.#scheduler.abort(requestId);
    stream.abort();
    return true;
  }

  /** One step: plan as far ahead as allowed, wait for the oldest plan, hand out its tokens. */
  async step(): Promise<void> {
    this.#fillPipeline();
    const oldest = this.#inFlight[0];
    if (oldest === undefined)
      throw new TandemError("engine: requests wait, but none can be planned");
    const output = await oldest.output;
    this.#inFlight.shift();
    for (const token of this.#scheduler.postprocess(output)) this.#deliver(token);
    this.#options.onStep?.(oldest.plan, output);
  }

  /** Aborts what runs, waits for the plans in flight, stops the executor. Safe to call again. */
  shutdown(): Promise<void> {
    this.#shutdown ??= this.#stop();
    return this.#shutdown;
  }

  #fillPipeline(): void {
    for (let plan = this.#scheduler.schedule(); plan !== null; plan = this.#scheduler.schedule()) {
      const output = this.#executor.execute(plan);
      // Awaited in turn; if an earlier plan fails first, nobody will look at this one's rejection.
      output.catch(() => undefined);
      this.#inFlight.push({ plan, output });
    }
  }

  #deliver({ requestId, tokenId, finishReason }: SampledToken): void {
    this.#streams.get(requestId)?.push(tokenId, finishReason);
    if (finishReason !== null) this.#streams.delete(requestId);
  }

  async #run(): Promise<void> {
    await Promise.resolve(); // requests that are added in one go start in one step
    try {
      while (this.#scheduler.hasWork) await this.step();
    } catch (error) {
      this.#fail(error instanceof Error ? error : new WorkerError(messageOf(error)));
    }
    this.#loop = null;
  }

  #fail(cause: Error): void {
    this.#failure = cause;
    this.#options.log?.error(() => `all requests fail: ${cause.message}`);
    for (const stream of this.#streams.values()) stream.fail(cause);
    this.#streams.clear();
    this.#inFlight.length = 0;
  }

  async #stop(): Promise<void> {
    this.#failure ??= new UsageError("engine: it was shut down");
    for (const requestId of [...this.#streams.keys()]) this.abort(requestId);
    await this.#loop;
    await this.#executor.shutdown();
  }
}
