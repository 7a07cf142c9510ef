/** One thread a rank, over the shared-memory transport; what `node run.ts` uses. */
import { Worker as Thread } from "node:worker_threads";
import * as Comlink from "comlink";
import nodeEndpoint from "comlink/dist/esm/node-adapter.mjs";
import {
  abortSharedMemory,
  controlOf,
  createSharedMemory,
  type SharedMemoryDescriptor,
} from "../../collectives/transport/sharedMemory.ts";
import { dumpOnSignal } from "../../collectives/watchdog/flightDumpNode.ts";
import { messageOf, WorkerError } from "../../common/errors.ts";
import type { TraceProcess } from "../../common/trace.ts";
import { within } from "../../common/within.ts";
import type { LaunchTime } from "../../device/timestamps.ts";
import type { LoadProgressEvent } from "../engineArgs.ts";
import type { RankReport, RankSpec } from "../rankSpec.ts";
import type { RankStats } from "../stats.ts";
import type { StepOutput, StepPlan } from "../stepPlan.ts";
import type { ProfiledStep, RankHandle, TapRecord } from "./rankHandle.ts";
import { PlanEncoder } from "./planCodec.ts";
import {
  reviveError,
  type Settled,
  type SettledApi,
  type StepMessage,
  unsettle,
} from "./rankMessages.ts";
import {
  createStepQueue,
  outputQueueBytes,
  planQueueBytes,
  StepQueue,
  type StepQueueMemory,
} from "./stepQueue.ts";

/** How long a thread may take to free its device before it is left behind. */
const EXIT_TIMEOUT_MS = 5_000;

/** One handle a spec; each starts its thread at once. */
export function threadRanks(
  specs: readonly RankSpec[],
  onProgress?: (event: LoadProgressEvent) => void,
): RankHandle[] {
  const transport = createSharedMemory(specs.length);
  const removeSignal = dumpOnSignal(controlOf(transport)); // a signal reaches this thread alone
  let numLeft = specs.length;
  const onEnd = (): void => {
    numLeft -= 1;
    if (numLeft === 0) removeSignal();
  };
  return specs.map((spec) => new ThreadRank(spec, transport, onEnd, onProgress));
}

interface PendingStep {
  readonly resolve: (output: StepOutput | null) => void;
  readonly reject: (error: Error) => void;
}

class ThreadRank implements RankHandle {
  readonly rank: number;
  readonly #spec: RankSpec;
  readonly #transport: SharedMemoryDescriptor;
  readonly #thread: Thread;
  readonly #api: Comlink.Remote<SettledApi>;
  readonly #exited: Promise<void>;
  readonly #onProgress: (event: LoadProgressEvent) => void;
  readonly #plansMemory: StepQueueMemory;
  readonly #outputsMemory: StepQueueMemory;
  readonly #plans: StepQueue;
  readonly #encoder = new PlanEncoder();
  readonly #outputs: StepQueue;
  readonly #pending = new Map<number, PendingStep>();
  readonly #listeners: ((error: Error) => void)[] = [];
  #failure: Error | undefined;
  #isStopping = false;
  #death: (error: Error) => void = () => undefined;
  readonly #died: Promise<never>;

  constructor(
    spec: RankSpec,
    transport: SharedMemoryDescriptor,
    onEnd: () => void,
    onProgress: ((event: LoadProgressEvent) => void) | undefined,
  ) {
    this.rank = spec.rank;
    this.#spec = spec;
    const { run, model } = spec;
    this.#plansMemory = createStepQueue(planQueueBytes(run, model.config.vocabSize));
    this.#outputsMemory = createStepQueue(outputQueueBytes(run));
    this.#plans = new StepQueue(this.#plansMemory);
    this.#outputs = new StepQueue(this.#outputsMemory);
    this.#transport = transport;
    this.#onProgress = onProgress ?? (() => undefined);
    this.#died = new Promise((_resolve, reject) => (this.#death = reject));
    this.#died.catch(() => undefined);
    this.#thread = new Thread(new URL("./rankWorker.ts", import.meta.url), {
      name: `rank ${spec.rank}`,
    });
    this.#api = Comlink.wrap<SettledApi>(nodeEndpoint(this.#thread));
    this.#thread.on("error", (error) => {
      this.#fail(this.#deathOf(messageOf(error)));
    });
    this.#exited = new Promise((resolve) => {
      this.#thread.once("exit", (code) => {
        onEnd();
        if (!this.#isStopping) this.#fail(this.#deathOf(`exit code ${code}`));
        resolve();
      });
    });
  }

  async open(): Promise<RankReport> {
    const setup = {
      spec: this.#spec,
      transport: this.#transport,
      plans: this.#plansMemory,
      outputs: this.#outputsMemory,
    };
    void this.#collect();
    return await this.#call(this.#api.open(setup));
  }

  async probeFreeBytes(maxBytes: number): Promise<number> {
    return await this.#call(this.#api.probeFreeBytes(maxBytes));
  }

  async start(numBlocks: number): Promise<number> {
    return await this.#call(this.#api.start(numBlocks));
  }

  execute(plan: StepPlan): Promise<StepOutput | null> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#pending.set(plan.stepIndex, { resolve, reject });
      this.#plans.push(this.#encoder.encode(plan));
    });
  }

  async forwardTaps(
    tokenIds: readonly number[],
    only: readonly string[],
  ): Promise<readonly TapRecord[]> {
    return await this.#call(this.#api.forwardTaps(tokenIds, only));
  }

  async profileStep(step: ProfiledStep): Promise<readonly LaunchTime[]> {
    return await this.#call(this.#api.profileStep(step));
  }

  async stats(): Promise<RankStats> {
    return await this.#call(this.#api.stats());
  }

  async resetStats(): Promise<void> {
    await this.#call(this.#api.resetStats());
  }

  async trace(): Promise<TraceProcess | undefined> {
    return await this.#call(this.#api.trace());
  }

  /** Drains, destroys the device, and ends the thread, unless it does not answer. */
  async shutdown(): Promise<void> {
    this.#isStopping = true;
    this.#plans.close();
    this.#outputs.close();
    const drained = Promise.race([this.#api.shutdown(), this.#exited]).catch(() => undefined);
    const ended = drained.then(() => this.#end()).then(() => true); // the device is gone, so no map is pending
    // Ending a thread that has a map pending would abort the process, and the cause would not be told:
    // one that does not answer is left behind until it does, and keeps nothing alive.
    if ((await within(EXIT_TIMEOUT_MS, ended)) === undefined) this.#thread.unref();
  }

  async #end(): Promise<void> {
    this.#api[Comlink.releaseProxy]();
    await this.#thread.terminate();
    await this.#exited;
  }

  onFailure(listener: (error: Error) => void): void {
    if (this.#failure === undefined) this.#listeners.push(listener);
    else listener(this.#failure);
  }

  abort(reason: string): void {
    abortSharedMemory(this.#transport, { rank: undefined, reason });
  }

  /** Takes the rank's messages until the queue is closed. */
  async #collect(): Promise<void> {
    for (;;) {
      const message = (await this.#outputs.pop()) as StepMessage | undefined;
      if (message === undefined) return;
      if ("progress" in message) {
        this.#onProgress(message.progress);
        continue;
      }
      const step = message.stepIndex === null ? undefined : this.#pending.get(message.stepIndex);
      if (message.stepIndex !== null) this.#pending.delete(message.stepIndex);
      if ("output" in message) step?.resolve(message.output);
      else if (step !== undefined) step.reject(reviveError(message.error));
      else this.#fail(reviveError(message.error));
    }
  }

  /** A call to the thread, given up when the thread dies. */
  async #call<T>(call: Promise<Settled<T>>): Promise<T> {
    return unsettle(await Promise.race([call, this.#died]));
  }

  #deathOf(cause: string): WorkerError {
    return new WorkerError(`rank ${this.rank}: its worker thread died: ${cause}`);
  }

  #fail(error: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.abort(error.message);
    this.#death(error);
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
    for (const listener of this.#listeners) listener(error);
  }
}
