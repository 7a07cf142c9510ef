/** One rank's model: picks the recorded list for a step's token class, writes its inputs, replays it. */
import { createModel } from "../../models/createModel.ts";
import type { Decoder, LogitRows } from "../../models/decoder.ts";
import type { LayerKvCache, WeightStore } from "../../models/layers/context.ts";
import type { Communicator } from "../collectives/communicator.ts";
import { ceilDiv } from "../common/math.ts";
import type { CommandList } from "../device/commandList.ts";
import type { Device } from "../device/device.ts";
import type { LiveCounts } from "../device/liveCounts.ts";
import type { TapSink } from "../device/recorder.ts";
import type { LaunchTime } from "../device/timestamps.ts";
import { chooseSplits } from "../kernels/attention.ts";
import type { ProfiledStep } from "./executor/rankHandle.ts";
import type { RankSpec } from "./rankSpec.ts";
import { Sampler } from "./sampler.ts";
import { chunkPlan, profiledPlan } from "./soloPlans.ts";
import { BlockTables, countDecodeTokens, prefillTiles, StepBuffers } from "./stepInputs.ts";
import { numTokensOf, type StepOutput, type StepPlan } from "./stepPlan.ts";
import type { TokenExchange } from "./tokenExchange.ts";

/** Splits of decode attention at most: bounds the scratch of its partial results. */
const MAX_SPLITS = 32;
/** Token classes below the full batch: a list a class, so that small steps run small kernels. */
const SMALL_CLASSES = [1, 8, 64];

/** This rank's handles on its groups. */
export interface RankGroups {
  readonly tp: Communicator;
  readonly pp: Communicator;
  readonly tokens: TokenExchange;
}

export class ModelRunner {
  readonly #device: Device;
  readonly #spec: RankSpec;
  readonly #groups: RankGroups;
  readonly #decoder: Decoder;
  readonly #sampler: Sampler | undefined;
  readonly #blockTables: BlockTables;
  readonly #numBlocks: number;
  readonly #numKvHeads: number;
  readonly #buffers = new Map<number, StepBuffers>();
  readonly #lists = new Map<number, CommandList>();
  #turn: Promise<unknown> = Promise.resolve();

  constructor(
    device: Device,
    spec: RankSpec,
    groups: RankGroups,
    weights: WeightStore,
    kvCaches: readonly LayerKvCache[],
  ) {
    this.#device = device;
    this.#spec = spec;
    this.#groups = groups;
    const { run } = spec;
    const lastToken = device.empty([run.maxNumSeqs], "u32", "last tokens");
    groups.tokens.attach(device, lastToken);
    this.#decoder = createModel({
      device,
      config: spec.model.config,
      rank: spec.rank,
      tpSize: run.tpSize,
      ppSize: run.ppSize,
      pp: groups.pp,
      weights,
      kvCaches,
      lastToken,
      maxSplits: MAX_SPLITS,
      maxNumSeqs: run.maxNumSeqs,
      blockSize: run.blockSize,
      kvCacheDType: run.kvCacheDType,
      maxModelLen: run.maxModelLen,
    });
    [this.#numBlocks = 0, , this.#numKvHeads = 1] = kvCaches[0]?.key.shape ?? [];
    const maxBlocks = ceilDiv(run.maxModelLen, run.blockSize);
    this.#blockTables = new BlockTables(device, run.maxNumSeqs, maxBlocks);
    if (this.#decoder.vocabShard !== undefined) {
      const { tp, tokens } = groups;
      this.#sampler = new Sampler(device, spec, tp, tokens, lastToken, this.#decoder.vocabShard);
    }
  }

  /** Capacities of the token classes, ascending. */
  get tokenClasses(): number[] {
    const { maxNumBatchedTokens } = this.#spec.run;
    return [...SMALL_CLASSES.filter((tokens) => tokens < maxNumBatchedTokens), maxNumBatchedTokens];
  }

  /** Records every token class; their pipelines compile in parallel and are dispatched once. */
  async compile(progress?: (done: number, total: number) => void): Promise<void> {
    const recorders = this.tokenClasses.map((capacity) => ({
      capacity,
      recorder: this.#record(capacity, "samples"),
    }));
    const { pipelines } = this.#device;
    const total = pipelines.numPipelines;
    let numSteps = 0; // two a pipeline: WebGPU compiles it, then the driver, at its first dispatch
    const advance = (): void => progress?.(Math.floor(++numSteps / 2), total);
    await pipelines.ready(advance);
    for (const { capacity, recorder } of recorders) {
      const list = await this.#device.finish(recorder, this.#spec.run.maxInFlight);
      await list.warmUp(advance);
      this.#lists.set(capacity, list);
    }
    progress?.(total, total); // pipelines of the loader were warm
  }

  /** Bytes of temporary tensors over all lists. */
  get arenaBytes(): number {
    return [...this.#lists.values()].reduce((sum, { arenaBytes }) => sum + arenaBytes, 0);
  }

  get lists(): readonly CommandList[] {
    return [...this.#lists.values()];
  }

  /** Runs a plan after those before it. Only the sampling rank has an output; others give null. */
  execute(plan: StepPlan): Promise<StepOutput | null> {
    const output = this.#groups.tokens.expect(plan);
    output.catch(() => undefined); // a failed replay is reported first
    const replayed = this.#inTurn(() => this.#replay(plan));
    return replayed.then(() => output);
  }

  /**
   * GPU time of each launch of one step. For use while no request runs. Empty where the adapter has no
   * timestamps.
   */
  async profileStep(step: ProfiledStep): Promise<readonly LaunchTime[]> {
    const plan = profiledPlan(step, this.#numBlocks, this.#spec.run.blockSize);
    const timer = this.#device.info.hasTimestamps ? this.#device.timer() : undefined;
    const output = this.#groups.tokens.expect(plan);
    await this.#inTurn(() => this.#replay(plan, timer));
    await output;
    return (await timer?.read()) ?? [];
  }

  /**
   * Runs tokens as one sequence from position 0 and hands every tap to `sink`, logits of all tokens
   * included. For use while no request runs: it takes slot 0 and the first blocks.
   */
  async forwardTaps(tokenIds: readonly number[], sink: TapSink): Promise<void> {
    await this.#inTurn(async () => {
      const capacity = this.#tapCapacity();
      const list = await this.#device.finish(this.#record(capacity, "tokens", sink));
      try {
        await list.warmUp();
        for (let begin = 0; begin < tokenIds.length; begin += capacity) {
          await this.#replayChunk(list, capacity, tokenIds.slice(begin, begin + capacity), begin);
        }
        await this.#device.idle();
      } finally {
        list.destroy();
      }
    });
  }

  #record(capacity: number, rows: LogitRows, sink?: TapSink): ReturnType<Device["record"]> {
    const buffers = this.#buffersOf(capacity);
    return this.#device.record((rec) => {
      const context = { rec, inputs: buffers.inputs, capacity, tp: this.#groups.tp };
      if (rows === "samples") this.#sampler?.countTokens(rec, buffers);
      const logits = this.#decoder.forward(context, rows);
      if (rows === "samples" && logits !== undefined) this.#sampler?.sample(rec, buffers, logits);
    }, sink);
  }

  #buffersOf(capacity: number): StepBuffers {
    const known = this.#buffers.get(capacity);
    if (known !== undefined) return known;
    const { maxNumSeqs, blockSize } = this.#spec.run;
    const shape = { capacity, maxNumSeqs, blockSize };
    const buffers = new StepBuffers(this.#device, shape, this.#blockTables.tensor);
    this.#buffers.set(capacity, buffers);
    return buffers;
  }

  /** Runs `work` after all work given before; a failure does not hold up what follows. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(work);
    this.#turn = mine.catch(() => undefined);
    return mine;
  }

  async #replay(plan: StepPlan, timer?: ReturnType<Device["timer"]>): Promise<void> {
    await this.#groups.tokens.arrived(plan.dependsOnStep);
    const numTokens = numTokensOf(plan);
    const capacity = this.tokenClasses.find((tokens) => numTokens <= tokens);
    const list = this.#lists.get(capacity ?? 0);
    if (capacity === undefined || list === undefined) {
      throw new Error(`step ${plan.stepIndex}: ${numTokens} tokens; no list holds so many`);
    }
    await list.replay(this.#writeInputs(plan, this.#buffersOf(capacity)), timer);
  }

  #writeInputs(plan: StepPlan, buffers: StepBuffers): LiveCounts {
    for (const sequence of plan.sequences) this.#blockTables.update(sequence);
    buffers.fill(plan);
    const sampling = this.#sampler?.fill(plan, buffers);
    buffers.upload();
    return this.#liveCounts(plan, sampling);
  }

  #liveCounts(plan: StepPlan, sampling: Partial<LiveCounts> | undefined): LiveCounts {
    const numDecodeTokens = countDecodeTokens(plan);
    const decodes = plan.sequences.slice(0, numDecodeTokens);
    const maxContextLength = Math.max(1, ...decodes.map(({ startPosition }) => startPosition + 1));
    const { blockSize } = this.#spec.run;
    const splits = chooseSplits(
      maxContextLength,
      MAX_SPLITS,
      blockSize,
      numDecodeTokens,
      this.#device.info,
      this.#numKvHeads,
    );
    return {
      numTokens: numTokensOf(plan),
      numSequences: plan.sequences.length,
      numDecodeTokens,
      numPrefillTiles: prefillTiles(plan).length / 4,
      numSamples: plan.sequences.filter(({ samples }) => samples).length,
      splitSize: splits.splitSize,
      numSplits: splits.numSplits,
      maxContextLength,
      numPenalized: 0,
      numFiltered: 0,
      numWide: 0,
      numBiased: 0,
      numMasked: 0,
      numLogprobRows: 0,
      ...sampling,
    };
  }

  /** The largest class whose logits of all tokens stay small. */
  #tapCapacity(): number {
    const rowBytes = this.#spec.model.config.vocabSize * 4;
    const limit = Math.min(64 << 20, this.#device.info.limits.maxStorageBufferBindingSize);
    const fitting = this.tokenClasses.filter((tokens) => tokens * rowBytes <= limit);
    return fitting.at(-1) ?? 1;
  }

  async #replayChunk(
    list: CommandList,
    capacity: number,
    tokenIds: readonly number[],
    startPosition: number,
  ): Promise<void> {
    const plan = chunkPlan(tokenIds, startPosition, this.#spec.run.blockSize);
    await list.replay(this.#writeInputs(plan, this.#buffersOf(capacity)));
  }
}
