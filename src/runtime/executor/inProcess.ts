/** All ranks in this thread, over the loopback transport: for tests, debugging and single devices. */
import type { FileSource } from "../../../models/weights/files.ts";
import { LoopbackHub } from "../../collectives/transport/loopback.ts";
import type { Transport } from "../../collectives/transport/transport.ts";
import type { TraceProcess } from "../../common/trace.ts";
import { WorkerError } from "../../common/errors.ts";
import type { DeviceOpener } from "../../device/opener.ts";
import type { LaunchTime } from "../../device/timestamps.ts";
import type { LoadProgressEvent } from "../engineArgs.ts";
import type { RankReport, RankSpec } from "../rankSpec.ts";
import type { RankStats } from "../stats.ts";
import type { StepOutput, StepPlan } from "../stepPlan.ts";
import { type RankEnvironment, type RankHooks, Worker } from "../worker.ts";
import type { ProfiledStep, RankHandle, TapRecord } from "./rankHandle.ts";
import { TapCollector } from "./taps.ts";

export interface InProcessEnvironment {
  readonly opener: DeviceOpener;
  readonly files: FileSource;
  readonly hooks?: RankHooks | undefined;
  readonly onProgress?: ((event: LoadProgressEvent) => void) | undefined;
  readonly watch?: RankEnvironment["watch"];
}

/** One handle a spec; the ranks share a hub. */
export function inProcessRanks(
  specs: readonly RankSpec[],
  environment: InProcessEnvironment,
): RankHandle[] {
  const hub = new LoopbackHub(specs.length);
  return specs.map((spec) => new InProcessRank(spec, hub.transport(spec.rank), environment));
}

class InProcessRank implements RankHandle {
  readonly rank: number;
  readonly #spec: RankSpec;
  readonly #transport: Transport;
  readonly #environment: InProcessEnvironment;
  #worker: Worker | undefined;

  constructor(spec: RankSpec, transport: Transport, environment: InProcessEnvironment) {
    this.rank = spec.rank;
    this.#spec = spec;
    this.#transport = transport;
    this.#environment = environment;
  }

  async open(): Promise<RankReport> {
    const { opener, files, hooks, watch } = this.#environment;
    const env = { opener, files, transport: this.#transport, hooks, watch };
    this.#worker = await Worker.open(this.#spec, env, this.#progress);
    return this.#worker.report();
  }

  async probeFreeBytes(maxBytes: number): Promise<number> {
    return await this.#opened().probeFreeBytes(maxBytes);
  }

  async start(numBlocks: number): Promise<number> {
    return await this.#opened().start(numBlocks, this.#progress);
  }

  execute(plan: StepPlan): Promise<StepOutput | null> {
    return this.#opened().execute(plan);
  }

  async forwardTaps(tokenIds: readonly number[], only: readonly string[]): Promise<TapRecord[]> {
    const taps = new TapCollector(only);
    await this.#opened().forwardTaps(tokenIds, taps.sink);
    return taps.records();
  }

  profileStep(step: ProfiledStep): Promise<readonly LaunchTime[]> {
    return this.#opened().profileStep(step);
  }

  stats(): Promise<RankStats> {
    return Promise.resolve(this.#opened().stats());
  }

  resetStats(): Promise<void> {
    this.#opened().resetStats();
    return Promise.resolve();
  }

  async trace(): Promise<TraceProcess | undefined> {
    return await this.#worker?.trace();
  }

  async shutdown(): Promise<void> {
    await this.#worker?.shutdown();
  }

  onFailure(listener: (error: Error) => void): void {
    this.#worker?.onFailure(listener);
  }

  abort(reason: string): void {
    this.#transport.abort({ rank: undefined, reason });
  }

  readonly #progress = (phase: LoadProgressEvent["phase"], done: number, total: number): void => {
    this.#environment.onProgress?.({ rank: this.rank, phase, done, total });
  };

  #opened(): Worker {
    if (this.#worker === undefined) throw new WorkerError(`rank ${this.rank}: not open`);
    return this.#worker;
  }
}
