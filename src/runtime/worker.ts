/** One rank: its device, weights, KV cache and model. Lives in a thread of its own or beside the others. */
import { loadWeights } from "../../models/weights/loader.ts";
import { openWeights } from "../../models/weights/open.ts";
import { layerRange } from "../../models/sharding.ts";
import { type ShardPlan, shardPlan } from "../../models/weights/plan.ts";
import type { FileSource } from "../../models/weights/files.ts";
import type { WeightStore } from "../../models/layers/context.ts";
import { sizeOf, type WeightSource } from "../../models/weights/weightSource.ts";
import { type LinkProperties, SimulatedLink } from "../collectives/transport/simulatedLink.ts";
import type { Transport } from "../collectives/transport/transport.ts";
import type { ControlBlock } from "../collectives/watchdog/controlBlock.ts";
import { FlightRecorder } from "../collectives/watchdog/flightRecorder.ts";
import { messageOf } from "../common/errors.ts";
import { within } from "../common/within.ts";
import { noTimes, type ReplayTimes } from "../device/commandList.ts";
import type { Device } from "../device/device.ts";
import type { DeviceOpener } from "../device/opener.ts";
import type { TraceProcess } from "../common/trace.ts";
import type { LaunchTime } from "../device/timestamps.ts";
import type { TapSink } from "../device/recorder.ts";
import { hasMatrixKernel } from "../kernels/linearMatrix.ts";
import { probeFreeBytes } from "../device/memoryProbe.ts";
import { estimateActivations } from "./activations.ts";
import { createKvCache, kvBlockBytes, type KvCacheShape, maxBindingBlocks } from "./kvCache.ts";
import { burstClassesOf, tokenClassesOf } from "./batchLane.ts";
import { ModelRunner } from "./modelRunner.ts";
import { type GroupHooks, joinGroups } from "./rankGroups.ts";
import { headsOf, type RankReport, type RankSpec, shardRank } from "./rankSpec.ts";
import type { ProfiledStep } from "./executor/rankHandle.ts";
import type { RankStats } from "./stats.ts";
import type { StepOutput, StepPlan } from "./stepPlan.ts";
import { RankTrace } from "./trace/rankTrace.ts";
import { TracedRecorder } from "./trace/tracedRecorder.ts";

/** Ways to change what a rank does, for tests that plant faults and see them found. */
export interface RankHooks extends GroupHooks {
  readonly weights?: (source: WeightSource, rank: number) => WeightSource;
}

/** What a rank uses of its surroundings. */
export interface RankEnvironment {
  readonly opener: DeviceOpener;
  readonly files: FileSource;
  readonly transport: Transport;
  /** Told of the rank's recorder; what it returns is called before the rank ends in order. */
  readonly watch?: ((recorder: FlightRecorder, control: ControlBlock) => () => void) | undefined;
  /** The rank has a thread of its own, as every other rank has. */
  readonly ownsThread?: boolean;
  readonly hooks?: RankHooks | undefined;
}

/** Progress of loading (bytes) and compiling (pipelines). */
export type RankProgress = (phase: "weights" | "pipelines", done: number, total: number) => void;

/** How long replays may take to end once the transport is closed. */
const REPLAY_GRACE_MS = 2_000;

/** What opening a rank gave. */
interface OpenedRank {
  readonly device: Device;
  readonly plan: ShardPlan;
  readonly weights: WeightStore;
  readonly weightBytes: number;
  readonly deviceMs: number;
  readonly weightsMs: number;
  readonly trace: RankTrace | undefined;
}

export class Worker {
  readonly #spec: RankSpec;
  readonly #env: RankEnvironment;
  readonly #device: Device;
  readonly #opened: OpenedRank;
  readonly #kvShape: KvCacheShape;
  readonly #recorder: FlightRecorder;
  readonly #unwatch: (() => void) | undefined;
  #runner: ModelRunner | undefined;
  #compileMs = 0;
  #numSteps = 0;

  private constructor(spec: RankSpec, env: RankEnvironment, opened: OpenedRank) {
    const { device, plan, trace } = opened;
    this.#spec = spec;
    this.#env = env;
    this.#device = device;
    this.#opened = opened;
    this.#recorder =
      trace === undefined
        ? new FlightRecorder(spec.rank)
        : new TracedRecorder(spec.rank, trace.tracer);
    this.#unwatch = env.watch?.(this.#recorder, env.transport.control);
    const { config } = spec.model;
    const { numKvHeads, headDim } = headsOf(spec);
    this.#kvShape = {
      numLayers: sizeOf(layerRange(config.numLayers, spec.run.ppSize, plan.ppRank)),
      numKvHeads,
      headDim,
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
    environment: RankEnvironment,
    progress?: RankProgress,
  ): Promise<Worker> {
    const { run, model } = spec;
    const trace = spec.isTraced === true ? new RankTrace(spec.rank) : undefined;
    const env = onLink(environment, run.simulatedLink);
    const layout = { tpSize: run.tpSize, ppSize: run.ppSize };
    const plan = shardPlan(model.config, layout, shardRank(spec.rank, run));
    const opened = await openWeights(model, env.files);
    const source = env.hooks?.weights?.(opened, spec.rank) ?? opened;
    const beginMs = performance.now();
    const device = await env.opener.open({
      index: spec.deviceIndex,
      label: `rank ${spec.rank}`,
      disableRobustness: spec.disableRobustness,
      tuned: spec.tuned,
      ownsThread: env.ownsThread === true,
      numThreads: env.ownsThread === true ? run.tpSize * run.ppSize : 1,
    });
    try {
      trace?.loaded("device", beginMs);
      const openMs = performance.now();
      const before = device.counters.allocatedBytes;
      const weights = await loadWeights(device, plan, source, model.dtype, (done, total) =>
        progress?.("weights", done, total),
      );
      trace?.loaded("weights", openMs);
      const weightBytes = device.counters.allocatedBytes - before;
      const [deviceMs, weightsMs] = [openMs - beginMs, performance.now() - openMs];
      const rank = { device, plan, weights, weightBytes, deviceMs, weightsMs, trace };
      return new Worker(spec, env, rank);
    } catch (error) {
      await device.destroy();
      throw error;
    }
  }

  /** Calls `listener` on the device's first failure. */
  onFailure(listener: (error: Error) => void): void {
    this.#device.onFailure(listener);
  }

  /** Whether its thread may stop for a while: it has no map to look for. False where that is not known. */
  mayStop(): boolean {
    return this.#device.pump?.isWaiting === false;
  }

  report(): RankReport {
    const { rank, deviceIndex, numRanksOnDevice, numRanksToCome, model, run } = this.#spec;
    const { info } = this.#device;
    const ofSteps = tokenClassesOf(run.maxNumBatchedTokens, info);
    const ofLane = [...ofSteps, ...burstClassesOf(ofSteps, run.burstSteps)];
    const classes = Array.from({ length: run.numMicroBatches }, () => ofLane).flat();
    return {
      rank,
      deviceName: info.name,
      deviceIndex,
      isSoftware: info.isSoftware,
      multipliesHalves: hasMatrixKernel(info),
      numRanksOnDevice,
      numRanksToCome,
      activationBytes: estimateActivations(model.config, run, rank, classes),
      weightBytes: this.#opened.weightBytes,
      deviceMs: this.#opened.deviceMs,
      weightsMs: this.#opened.weightsMs,
      kvBlockBytes: kvBlockBytes(this.#kvShape),
      maxBindingBlocks: maxBindingBlocks(this.#kvShape, info),
    };
  }

  /** Bytes that its device can still allocate, as far as `maxBytes`. */
  async probeFreeBytes(maxBytes: number): Promise<number> {
    return await probeFreeBytes(this.#device, maxBytes);
  }

  /**
   * Allocates the KV cache, records the model and compiles its pipelines. Resolves to the bytes that it
   * allocated besides the cache.
   */
  async start(numBlocks: number, progress?: RankProgress): Promise<number> {
    const { run } = this.#spec;
    const { collectiveTimeoutMs: timeoutMs, collectives } = run;
    const options = { timeoutMs, recorder: this.#recorder, ...collectives };
    const groups = joinGroups(this.#env.transport, run, options, this.#env.hooks);
    const { weights, trace } = this.#opened;
    const begin = performance.now();
    const { counters } = this.#device;
    const before = counters.allocatedBytes;
    const kvCaches = await this.#device.guard("KV cache", () =>
      createKvCache(this.#device, this.#kvShape, numBlocks),
    );
    const runner = new ModelRunner(this.#device, this.#spec, groups, weights, kvCaches, trace);
    await runner.compile((done, total) => progress?.("pipelines", done, total));
    this.#compileMs = performance.now() - begin;
    trace?.loaded("KV cache and pipelines", begin);
    trace?.attach(this.#device);
    this.#runner = runner;
    return counters.allocatedBytes - before - numBlocks * kvBlockBytes(this.#kvShape);
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

  /** What it did so far; undefined unless it is traced. */
  async trace(): Promise<TraceProcess | undefined> {
    return await this.#opened.trace?.process();
  }

  stats(): RankStats {
    const lists = this.#runner?.lists ?? [];
    const sum = (field: keyof ReplayTimes): number =>
      lists.reduce((total, { times }) => total + times[field], 0);
    const { count, bytes } = this.#recorder.totals();
    return {
      rank: this.#spec.rank,
      numSteps: this.#numSteps,
      numLaunches: sum("numLaunches"),
      numSubmits: sum("numSubmits"),
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
      Object.assign(times, noTimes());
    }
  }

  /** Leaves the groups, waits for the GPU and frees the device. */
  async shutdown(): Promise<void> {
    this.#unwatch?.();
    this.#env.transport.close();
    // A map that is pending when its thread ends aborts the process: replays settle theirs first.
    if (this.#runner !== undefined) await within(REPLAY_GRACE_MS, this.#runner.idle());
    this.#opened.trace?.destroy();
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

/** The same surroundings with a worse wire; see SimulatedLink. */
function onLink(environment: RankEnvironment, link: LinkProperties | null): RankEnvironment {
  if (link === null) return environment;
  return { ...environment, transport: new SimulatedLink(environment.transport, link) };
}
