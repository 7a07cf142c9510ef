/**
 * The recordings of one micro-batch: a list for each token class, with the inputs, the sampler's tables and
 * the communicators that belong to it. A lane runs one plan after the other; two lanes run at once.
 */
import type { Decoder, LogitRows } from "../../models/decoder.ts";
import type { Communicator } from "../collectives/communicator.ts";
import type { CommandList } from "../device/commandList.ts";
import type { Device } from "../device/device.ts";
import { type LiveCounts, liveRows } from "../device/liveCounts.ts";
import type { Recorder, TapSink } from "../device/recorder.ts";
import { type AttentionHeads, chooseSplits } from "../kernels/attention.ts";
import { hasMatrixKernel } from "../kernels/linearMatrix.ts";
import { MATRIX_MIN_ROWS } from "../kernels/linearVariant.ts";
import { numLogitRows } from "./promptRows.ts";
import type { RunSpec } from "./rankSpec.ts";
import type { Sampler } from "./sampler.ts";
import { type BlockTables, countDecodeTokens, StepBuffers } from "./stepInputs.ts";
import { numTokensOf, type StepPlan } from "./stepPlan.ts";

/** Splits of decode attention at most: bounds the scratch of its partial results. */
export const MAX_SPLITS = 32;
/** Token classes below the full batch: a list a class, so that small steps run small kernels. */
const SMALL_CLASSES = [1, 8, 64];
/** Tensor cores take over from sums by lanes where a step has more tokens than the second class. */
const MATRIX_CLASSES = [1, MATRIX_MIN_ROWS - 1, 64];

/** Capacities of the token classes, ascending. */
export function tokenClassesOf(
  maxNumBatchedTokens: number,
  adapter: Parameters<typeof hasMatrixKernel>[0],
): number[] {
  const small = hasMatrixKernel(adapter) ? MATRIX_CLASSES : SMALL_CLASSES;
  return [...small.filter((tokens) => tokens < maxNumBatchedTokens), maxNumBatchedTokens];
}

/** What all lanes of a rank share. */
export interface SharedParts {
  readonly device: Device;
  readonly run: RunSpec;
  readonly decoder: Decoder;
  readonly blockTables: BlockTables;
  readonly heads: AttentionHeads;
}

/** What is a lane's own: collectives of two lanes may be on their way at once, each counted by itself. */
export interface LaneParts {
  readonly tp: Communicator;
  readonly pp: Communicator;
  /** On the ranks of the last stage. */
  readonly sampler: Sampler | undefined;
}

/** A recording and the counts of the step that it is to be replayed with. */
export interface ReadyStep {
  readonly list: CommandList;
  readonly live: LiveCounts;
}

export class BatchLane {
  readonly lists = new Map<number, CommandList>();
  readonly #shared: SharedParts;
  readonly #own: LaneParts;
  readonly #buffers = new Map<number, StepBuffers>();
  #turn: Promise<unknown> = Promise.resolve();

  constructor(shared: SharedParts, own: LaneParts) {
    this.#shared = shared;
    this.#own = own;
  }

  /** Runs `work` after all work given before; a failure does not hold up what follows. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(work);
    this.#turn = mine.catch(() => undefined);
    return mine;
  }

  /** Resolves when all work given so far is over, well or not: no map of its is pending then. */
  async idle(): Promise<void> {
    await this.#turn;
  }

  /** Records one token class. */
  record(capacity: number, rows: LogitRows, sink?: TapSink): Recorder {
    const { device, decoder } = this.#shared;
    const { tp, pp, sampler } = this.#own;
    const buffers = this.#buffersOf(capacity);
    return device.record((rec) => {
      const context = { rec, inputs: buffers.inputs, capacity, tp, pp };
      if (rows === "samples") sampler?.countTokens(rec, buffers);
      const logits = decoder.forward(context, rows);
      if (rows === "samples" && logits !== undefined) sampler?.sample(rec, buffers, logits);
    }, sink);
  }

  /** Compiles a recording; from then on `prepare` chooses it for plans of its class. Smaller classes first. */
  async finish(capacity: number, recorder: Recorder): Promise<CommandList> {
    const { device, run } = this.#shared;
    const list = await device.finish(recorder, run.maxInFlight, this.#buffersOf(capacity).live);
    this.lists.set(capacity, list);
    return list;
  }

  /** Writes a plan's inputs for the list of its token class. */
  prepare(plan: StepPlan): ReadyStep {
    const numTokens = numTokensOf(plan);
    for (const [capacity, list] of this.lists) {
      // ascending, as they were finished
      if (numTokens <= capacity) return { list, live: this.writeInputs(plan, capacity) };
    }
    throw new Error(`step ${plan.stepIndex}: ${numTokens} tokens; no list holds so many`);
  }

  /** The inputs of the list for `capacity` tokens. */
  writeInputs(plan: StepPlan, capacity: number): LiveCounts {
    const buffers = this.#buffersOf(capacity);
    for (const sequence of plan.sequences) this.#shared.blockTables.update(sequence);
    const numPrefillTiles = buffers.fill(plan);
    const sampling = this.#own.sampler?.fill(plan, buffers);
    const live = this.#liveCounts(plan, { numPrefillTiles, ...sampling });
    buffers.upload(live);
    return live;
  }

  #buffersOf(capacity: number): StepBuffers {
    const known = this.#buffers.get(capacity);
    if (known !== undefined) return known;
    const { device, run, blockTables } = this.#shared;
    const { maxNumSeqs, blockSize } = run;
    const shape = { capacity, maxNumSeqs, blockSize };
    const buffers = new StepBuffers(device, shape, blockTables.tensor);
    this.#buffers.set(capacity, buffers);
    return buffers;
  }

  #liveCounts(plan: StepPlan, known: Partial<LiveCounts>): LiveCounts {
    const { device, run, heads } = this.#shared;
    const numDecodeTokens = countDecodeTokens(plan);
    const decodes = plan.sequences.slice(0, numDecodeTokens);
    const maxContextLength = Math.max(1, ...decodes.map(({ startPosition }) => startPosition + 1));
    const { blockSize } = run;
    const request = { maxContextLength, numDecodeTokens, maxSplits: MAX_SPLITS, blockSize, heads };
    const splits = chooseSplits(request, device.info);
    return liveRows(numTokensOf(plan), {
      numSequences: plan.sequences.length,
      numDecodeTokens,
      numSamples: numLogitRows(plan),
      ...splits,
      maxContextLength,
      ...known,
    });
  }
}
