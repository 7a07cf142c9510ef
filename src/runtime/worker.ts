/** One rank: its device, weights, KV cache and model. Lives in a thread of its own or beside the others. */
import { loadWeights } from "../../models/weights/loader.ts";
import { openWeights } from "../../models/weights/open.ts";
import type { Communicator } from "../collectives/communicator.ts";
import { headShard, layerRange } from "../../models/sharding.ts";
import { type ShardPlan, shardPlan } from "../../models/weights/plan.ts";
import type { FileSource } from "../../models/weights/files.ts";
import type { WeightStore } from "../../models/layers/context.ts";
import { sizeOf, type WeightSource } from "../../models/weights/weightSource.ts";
import { DeviceCommunicator } from "../collectives/deviceCommunicator.ts";
import { HostCommunicator } from "../collectives/hostCommunicator.ts";
import { ParallelState } from "../collectives/parallelState.ts";
import type { Transport } from "../collectives/transport/transport.ts";
import { FlightRecorder } from "../collectives/watchdog/flightRecorder.ts";
import { messageOf } from "../common/errors.ts";
import type { Device } from "../device/device.ts";
import type { DeviceOpener } from "../device/opener.ts";
import type { LaunchTime } from "../device/timestamps.ts";
import type { TapSink } from "../device/recorder.ts";
import { createKvCache, kvBlockBytes, type KvCacheShape, maxKvBlocks } from "./kvCache.ts";
import { ModelRunner } from "./modelRunner.ts";
import { type RankReport, type RankSpec, samplingRank, shardRank } from "./rankSpec.ts";
import type { ProfiledStep } from "./executor/rankHandle.ts";
import type { RankStats } from "./stats.ts";
import type { StepOutput, StepPlan } from "./stepPlan.ts";
import { TokenExchange } from "./tokenExchange.ts";

/** Ways to change what a rank does, for tests that plant faults and see them found. */
export interface RankHooks {
  readonly weights?: (source: WeightSource, rank: number) => WeightSource;
  readonly tp?: (communicator: Communicator, rank: number) => Communicator;
  readonly pp?: (communicator: Communicator, rank: number) => Communicator;
}

/** What a rank uses of its surroundings. */
export interface RankEnvironment {
  readonly opener: DeviceOpener;
  readonly files: FileSource;
  readonly transport: Transport;
  readonly hooks?: RankHooks | undefined;
}

/** Progress of loading (bytes) and compiling (pipelines). */
export type RankProgress = (phase: "weights" | "pipelines", done: number, total: number) => void;

export class Worker {
  readonly #spec: RankSpec;
  readonly #env: RankEnvironment;
  readonly #device: Device;
  readonly #weights: WeightStore;
  readonly #kvShape: KvCacheShape;
  readonly #recorder: FlightRecorder;
  readonly #weightBytes: number;
  #runner: ModelRunner | undefined;
  #compileMs = 0;
  #numSteps = 0;

  private constructor(
    spec: RankSpec,
    env: RankEnvironment,
    device: Device,
    plan: ShardPlan,
    weights: WeightStore,
    weightBytes: number,
  ) {
    this.#spec = spec;
    this.#env = env;
    this.#device = device;
    this.#weights = weights;
    this.#weightBytes = weightBytes;
    this.#recorder = new FlightRecorder(spec.rank);
    const { config } = spec.model;
    const { kvHeads } = headShard(config, spec.run.tpSize, plan.tpRank);
    this.#kvShape = {
      numLayers: sizeOf(layerRange(config.numLayers, spec.run.ppSize, plan.ppRank)),
      numKvHeads: sizeOf(kvHeads),
      headDim: config.headDim,
      blockSize: spec.run.blockSize,
      dtype: spec.run.kvCacheDType,
    };
    // a lost device or a rejected command fails this rank's collectives, and so every rank
    device.onFailure((error) => {
      env.transport.abort({ rank: spec.rank, reason: messageOf(error) });
    });
  }

  /** Opens the device and loads this rank's weights. */
  static async open(
    spec: RankSpec,
    env: RankEnvironment,
    progress?: RankProgress,
  ): Promise<Worker> {
    const { run, model } = spec;
    const layout = { tpSize: run.tpSize, ppSize: run.ppSize };
    const plan = shardPlan(model.config, layout, shardRank(spec.rank, run));
    const opened = await openWeights(model, env.files);
    const source = env.hooks?.weights?.(opened, spec.rank) ?? opened;
    const device = await env.opener.open({
      index: spec.deviceIndex,
      label: `rank ${spec.rank}`,
      disableRobustness: spec.disableRobustness,
    });
    try {
      const before = device.counters.allocatedBytes;
      const weights = await loadWeights(device, plan, source, model.dtype, (done, total) =>
        progress?.("weights", done, total),
      );
      const weightBytes = device.counters.allocatedBytes - before;
      return new Worker(spec, env, device, plan, weights, weightBytes);
    } catch (error) {
      await device.destroy();
      throw error;
    }
  }

  /** Calls `listener` on the device's first failure. */
  onFailure(listener: (error: Error) => void): void {
    this.#device.onFailure(listener);
  }

  report(): RankReport {
    const { rank, numRanksOnDevice } = this.#spec;
    return {
      rank,
      deviceName: this.#device.info.name,
      weightBytes: this.#weightBytes,
      kvBlockBytes: kvBlockBytes(this.#kvShape),
      maxKvBlocks: maxKvBlocks(this.#kvShape, this.#device.info, numRanksOnDevice),
    };
  }

  /** Allocates the KV cache, records the model and compiles its pipelines. */
  async start(numBlocks: number, progress?: RankProgress): Promise<void> {
    const { run } = this.#spec;
    const state = new ParallelState(this.#env.transport, { pp: run.ppSize, tp: run.tpSize });
    const options = { timeoutMs: run.collectiveTimeoutMs, recorder: this.#recorder };
    const [tp, pp, world] = [state.getTpGroup(), state.getPpGroup(), state.getWorldGroup()].map(
      (group) => new HostCommunicator(group, options),
    );
    if (tp === undefined || pp === undefined || world === undefined) return;
    const [deviceTp, devicePp] = [new DeviceCommunicator(tp), new DeviceCommunicator(pp)];
    const groups = {
      tp: this.#env.hooks?.tp?.(deviceTp, this.#spec.rank) ?? deviceTp,
      pp: this.#env.hooks?.pp?.(devicePp, this.#spec.rank) ?? devicePp,
      tokens: new TokenExchange(world, samplingRank(run)),
    };
    const begin = performance.now();
    const kvCaches = await this.#device.guard("KV cache", () =>
      createKvCache(this.#device, this.#kvShape, numBlocks),
    );
    const runner = new ModelRunner(this.#device, this.#spec, groups, this.#weights, kvCaches);
    await runner.compile((done, total) => progress?.("pipelines", done, total));
    this.#compileMs = performance.now() - begin;
    this.#runner = runner;
  }

  /** Only the sampling rank has an output; others give null. */
  async execute(plan: StepPlan): Promise<StepOutput | null> {
    this.#numSteps += 1;
    return await this.#failing(() => this.#started().execute(plan));
  }

  /** Runs a prompt and hands every tap to `sink`; see ModelRunner. */
  async forwardTaps(tokenIds: readonly number[], sink: TapSink): Promise<void> {
    await this.#failing(() => this.#started().forwardTaps(tokenIds, sink));
  }

  /** GPU time of the launches of a step; see ModelRunner. */
  async profileStep(step: ProfiledStep): Promise<readonly LaunchTime[]> {
    return await this.#failing(() => this.#started().profileStep(step));
  }

  stats(): RankStats {
    const lists = this.#runner?.lists ?? [];
    const sum = (field: "encodeMs" | "submitMs" | "hostOpMs" | "numLaunches"): number =>
      lists.reduce((total, { times }) => total + times[field], 0);
    const { count, bytes } = this.#recorder.totals();
    return {
      rank: this.#spec.rank,
      numSteps: this.#numSteps,
      numLaunches: sum("numLaunches"),
      encodeMs: sum("encodeMs"),
      submitMs: sum("submitMs"),
      collectiveMs: sum("hostOpMs"),
      collectiveOps: count,
      collectiveBytes: bytes,
      pipelines: this.#device.pipelines.numPipelines,
      compileMs: this.#compileMs,
      buffers: this.#device.counters.buffers,
      bindGroups: this.#device.counters.bindGroups,
    };
  }

  resetStats(): void {
    this.#numSteps = 0;
    this.#recorder.resetTotals();
    for (const { times } of this.#runner?.lists ?? []) {
      Object.assign(times, { encodeMs: 0, submitMs: 0, hostOpMs: 0, numLaunches: 0 });
    }
  }

  /** Leaves the groups, waits for the GPU and frees the device. */
  async shutdown(): Promise<void> {
    this.#env.transport.close();
    await this.#device.destroy();
  }

  #started(): ModelRunner {
    if (this.#runner === undefined) throw new Error(`rank ${this.#spec.rank}: not started`);
    return this.#runner;
  }

  /** A failure here must not leave other ranks waiting for their deadline. */
  async #failing<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      this.#env.transport.abort({ rank: this.#spec.rank, reason: messageOf(error) });
      throw error;
    }
  }
}
