/** One rank's model: hands each plan to a lane of recorded lists, in the order that plans depend on. */
import { createModel } from "../../models/createModel.ts";
import type { LayerKvCache, WeightStore } from "../../models/layers/context.ts";
import { messageOf, WorkerError } from "../common/errors.ts";
import { ceilDiv } from "../common/math.ts";
import type { CommandList } from "../device/commandList.ts";
import type { Device } from "../device/device.ts";
import type { TapSink } from "../device/recorder.ts";
import type { ReplayWatch } from "../device/replayWatch.ts";
import { type PassTimer, SpanTimer } from "../device/spanTimer.ts";
import type { LaunchTime } from "../device/timestamps.ts";
import {
  BatchLane,
  burstClassesOf,
  type LaneParts,
  MAX_SPLITS,
  tokenClassesOf,
} from "./batchLane.ts";
import { GatheredBurst } from "./bursts.ts";
import type { ProfiledStep } from "./executor/rankHandle.ts";
import { PlanOrder, type PlanProgress } from "./planOrder.ts";
import type { RankGroups } from "./rankGroups.ts";
import { headsOf, type RankSpec } from "./rankSpec.ts";
import { Sampler } from "./sampler.ts";
import { chunkPlan, profiledPlan } from "./soloPlans.ts";
import { BlockTables } from "./stepInputs.ts";
import type { StepOutput, StepPlan } from "./stepPlan.ts";
import type { TokenExchange } from "./tokenExchange.ts";
import type { RankTrace, StepTrace } from "./trace/rankTrace.ts";

/** What a replay brings along: what it waits for, and what it reports. */
interface Replay {
  /** One plan, or those of a burst. */
  readonly plans: readonly StepPlan[];
  readonly lane: BatchLane;
  /** Undefined where one plan runs at a time. */
  readonly progress?: PlanProgress | undefined;
  readonly timer?: PassTimer | undefined;
  readonly trace?: StepTrace | undefined;
}

export class ModelRunner {
  readonly #device: Device;
  readonly #spec: RankSpec;
  readonly #tokens: TokenExchange;
  readonly #lanes: readonly BatchLane[];
  readonly #numBlocks: number;
  readonly #trace: RankTrace | undefined;
  readonly #order = new PlanOrder();
  readonly #replays = new Map<number, Promise<unknown>>(); // by step, until submitted
  #burst: GatheredBurst | undefined; // until it is whole

  constructor(
    device: Device,
    spec: RankSpec,
    groups: RankGroups,
    weights: WeightStore,
    kvCaches: readonly LayerKvCache[],
    trace?: RankTrace,
  ) {
    this.#device = device;
    this.#trace = trace;
    this.#spec = spec;
    this.#tokens = groups.tokens;
    const { run } = spec;
    // One more than there are slots: where the draws of rows go that are no sequence's.
    const lastToken = device.empty([run.maxNumSeqs + 1], "u32", "last tokens");
    groups.tokens.attach(device, lastToken);
    const decoder = createModel({
      device,
      config: spec.model.config,
      rank: spec.rank,
      tpSize: run.tpSize,
      ppSize: run.ppSize,
      weights,
      kvCaches,
      lastToken,
      maxSplits: MAX_SPLITS,
      maxNumSeqs: run.maxNumSeqs,
      blockSize: run.blockSize,
      kvCacheDType: run.kvCacheDType,
      maxModelLen: run.maxModelLen,
    });
    [this.#numBlocks = 0] = kvCaches[0]?.key.shape ?? [];
    const maxBlocks = ceilDiv(run.maxModelLen, run.blockSize);
    const blockTables = new BlockTables(device, run.maxNumSeqs, maxBlocks);
    const { vocabShard } = decoder;
    const counts = vocabShard && Sampler.createCounts(device, run, vocabShard);
    const shared = { device, run, decoder, blockTables, heads: headsOf(spec) };
    this.#lanes = groups.lanes.map(({ tp, pp }): BatchLane => {
      const state = counts && { tp, tokens: groups.tokens, lastToken, counts };
      const sampler = vocabShard && state && new Sampler(device, spec, state, vocabShard);
      const own: LaneParts = { tp, pp, sampler };
      return new BatchLane(shared, own);
    });
  }

  /** Capacities of the token classes, ascending. */
  get tokenClasses(): number[] {
    return tokenClassesOf(this.#spec.run.maxNumBatchedTokens, this.#device.info);
  }

  /** Records every token class; their pipelines compile in parallel and are dispatched once. */
  async compile(progress?: (done: number, total: number) => void): Promise<void> {
    const { tokenClasses } = this;
    const burstClasses = burstClassesOf(tokenClasses, this.#spec.run.burstSteps);
    const recordings = this.#lanes.flatMap((lane) => [
      ...tokenClasses.map((capacity) => {
        return { lane, capacity, recorder: lane.record(capacity, "samples"), isBurst: false };
      }),
      ...burstClasses.map((capacity) => {
        return { lane, capacity, recorder: lane.recordBurst(capacity), isBurst: true };
      }),
    ]);
    const { pipelines } = this.#device;
    const total = pipelines.numPipelines;
    let numSteps = 0; // two a pipeline: WebGPU compiles it, then the driver, at its first dispatch
    const advance = (): void => progress?.(Math.floor(++numSteps / 2), total);
    await pipelines.ready(advance);
    for (const { lane, capacity, recorder, isBurst } of recordings) {
      const list = await lane.finish(capacity, recorder, isBurst);
      await list.warmUp(advance);
    }
    progress?.(total, total); // pipelines of the loader were warm
  }

  /** Bytes of temporary tensors over all lists. */
  get arenaBytes(): number {
    return this.lists.reduce((sum, { arenaBytes }) => sum + arenaBytes, 0);
  }

  get lists(): readonly CommandList[] {
    return this.#lanes.flatMap(({ lists, bursts }) => [...lists.values(), ...bursts.values()]);
  }

  /**
   * Runs a plan after those before it in its lane, and beside those of the other lane. Only the sampling
   * rank has an output; others give null.
   */
  execute(plan: StepPlan): Promise<StepOutput | null> {
    const output = this.#tokens.expect(plan);
    output.catch(() => undefined); // a failed replay is reported first
    const at = plan.stepIndex % this.#lanes.length;
    const lane = this.#laneAt(at);
    const progress = this.#lanes.length > 1 ? this.#order.begin() : undefined;
    const replayed = this.#gathered(plan, lane, (plans) =>
      lane.inTurn(() => {
        const trace = this.#trace?.step(plans, result, at);
        return this.#replay({ plans, lane, progress, timer: trace?.timer, trace });
      }),
    );
    const result = replayed.then(() => output);
    this.#replays.set(plan.stepIndex, replayed);
    const forget = (): boolean => this.#replays.delete(plan.stepIndex);
    replayed.then(forget, forget);
    return result;
  }

  /** Replays a plan at once, or the burst that it is part of once that is whole. */
  #gathered(
    plan: StepPlan,
    lane: BatchLane,
    replay: (plans: readonly StepPlan[]) => Promise<void>,
  ): Promise<void> {
    if (this.#burst === undefined && !lane.holdsBurst(plan)) return replay([plan]);
    const burst = (this.#burst ??= new GatheredBurst(plan));
    if (burst.add(plan)) {
      this.#burst = undefined;
      burst.replay(replay);
    }
    return burst.replayed;
  }

  /**
   * GPU time of each launch of one step, or of all in a row. For use while no request runs. Empty where the
   * adapter has no timestamps, and for all in a row where the step is in several passes.
   */
  async profileStep(step: ProfiledStep): Promise<readonly LaunchTime[]> {
    if (!this.#device.info.hasTimestamps) {
      await this.#runProfiled(step);
      return [];
    }
    if (step.isWhole !== true) {
      const timer = this.#device.timer();
      await this.#runProfiled(step, timer);
      return await timer.read();
    }
    const span = new SpanTimer(this.#device);
    try {
      await this.#runProfiled(step, span);
      return span.numPasses === 1 ? [{ label: "step", timeUs: await span.readUs() }] : [];
    } finally {
      span.destroy();
    }
  }

  async #runProfiled(step: ProfiledStep, timer?: PassTimer): Promise<void> {
    const plan = profiledPlan(step, this.#numBlocks, this.#spec.run.blockSize);
    const output = this.#tokens.expect(plan);
    const lane = this.#laneAt(0);
    await lane.inTurn(() => this.#replay({ plans: [plan], lane, timer }));
    await output;
  }

  /**
   * Runs tokens as one sequence from position 0 and hands every tap to `sink`, logits of all tokens
   * included. For use while no request runs: it takes slot 0 and the first blocks.
   */
  async forwardTaps(tokenIds: readonly number[], sink: TapSink): Promise<void> {
    const lane = this.#laneAt(0);
    await lane.inTurn(async () => {
      const capacity = this.#tapCapacity();
      const list = await this.#device.finish(lane.record(capacity, "tokens", sink));
      try {
        await list.warmUp();
        for (let begin = 0; begin < tokenIds.length; begin += capacity) {
          const chunk = tokenIds.slice(begin, begin + capacity);
          const plan = chunkPlan(chunk, begin, this.#spec.run.blockSize);
          await list.replay(lane.writeInputs([plan], capacity));
        }
        await this.#device.idle();
      } finally {
        list.destroy();
      }
    });
  }

  async #replay({ plans, lane, progress, timer, trace }: Replay): Promise<void> {
    try {
      // Its tokens are in lastToken: uploaded, or written by the GPU once the other lane has submitted that.
      const dependsOnStep = plans[0]?.dependsOnStep ?? -1;
      await this.#tokens.arrived(dependsOnStep);
      await this.#replays.get(dependsOnStep);
      const beginMs = performance.now();
      const { list, live } = lane.prepare(plans);
      trace?.onSpan("host", "inputs", beginMs);
      await list.replay(live, timer, watchOf(progress, trace));
      progress?.end();
    } catch (error) {
      progress?.fail(error instanceof Error ? error : new WorkerError(messageOf(error)));
      throw error;
    } finally {
      trace?.replayed();
    }
  }

  /** Resolves when no replay is under way; see Worker.shutdown. */
  async idle(): Promise<void> {
    await Promise.all(this.#lanes.map((lane) => lane.idle()));
  }

  /** The largest class whose logits of all tokens stay small. */
  #tapCapacity(): number {
    const rowBytes = this.#spec.model.config.vocabSize * 4;
    const limit = Math.min(64 << 20, this.#device.info.limits.maxStorageBufferBindingSize);
    const fitting = this.tokenClasses.filter((tokens) => tokens * rowBytes <= limit);
    return fitting.at(-1) ?? 1;
  }

  #laneAt(index: number): BatchLane {
    const lane = this.#lanes[index];
    if (lane === undefined) throw new Error(`rank ${this.#spec.rank}: no lane ${index}`);
    return lane;
  }
}

function watchOf(progress?: PlanProgress, trace?: StepTrace): ReplayWatch {
  if (progress === undefined) return trace === undefined ? {} : { onSpan: trace.onSpan };
  const { beforeSubmit, submitted } = progress;
  return { beforeSubmit, submitted, onSpan: trace?.onSpan };
}
