/**
 * The recordings of one micro-batch: a list for each token class, with the inputs, the sampler's tables and
 * the communicators that belong to it. A lane runs one plan after the other; two lanes run at once.
 */
import type { Decoder, LogitRows } from "../../models/decoder.ts";
import type { Communicator } from "../collectives/communicator.ts";
import { roundUp } from "../common/math.ts";
import type { CommandList } from "../device/commandList.ts";
import type { Device } from "../device/device.ts";
import { type LiveCounts, liveRows } from "../device/liveCounts.ts";
import type { Recorder, TapSink } from "../device/recorder.ts";
import { OFFSET_ALIGNMENT } from "../device/tensor.ts";
import { type AttentionHeads, chooseSplits } from "../kernels/attention.ts";
import { hasMatrixKernel } from "../kernels/linearMatrix.ts";
import { MATRIX_MIN_ROWS } from "../kernels/linearVariant.ts";
import { numLogitRows } from "./promptRows.ts";
import type { RunSpec } from "./rankSpec.ts";
import type { Sampler } from "./sampler.ts";
import { type BlockTables, countDecodeTokens, ListInputs } from "./stepInputs.ts";
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

/** Capacities of the lists of bursts: steps of a full batch take long. */
export function burstClassesOf(tokenClasses: readonly number[], burstSteps: number): number[] {
  return burstSteps > 1 ? tokenClasses.slice(0, -1) : [];
}

/** Words from a step's sampled tokens to the next one's, which are bindings of their own. */
const SAMPLED_ALIGNMENT = OFFSET_ALIGNMENT / 4;

export class BatchLane {
  readonly lists = new Map<number, CommandList>();
  /** Of bursts, by the tokens of each step. */
  readonly bursts = new Map<number, CommandList>();
  readonly #shared: SharedParts;
  readonly #own: LaneParts;
  readonly #inputs = new Map<string, ListInputs>();
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
    const { steps } = this.#inputsOf(capacity);
    return device.record((rec) => {
      for (const buffers of steps) {
        const context = { rec, inputs: buffers.inputs, capacity, tp, pp };
        if (rows === "samples") sampler?.countTokens(rec, buffers);
        const logits = decoder.forward(context, rows);
        if (rows === "samples" && logits !== undefined) sampler?.sample(rec, buffers, logits);
      }
    }, sink);
  }

  /** Records the steps of a burst one after the other, each reading the tokens of the one before. */
  recordBurst(capacity: number): Recorder {
    const { device, decoder, run } = this.#shared;
    const { tp, pp, sampler } = this.#own;
    const { steps } = this.#inputsOf(capacity, run.burstSteps);
    return device.record((rec) => {
      const stride = roundUp(Math.min(capacity, run.maxNumSeqs), SAMPLED_ALIGNMENT);
      const sampledIds = rec.alloc("sampled ids", [steps.length, stride], "u32");
      for (const [step, buffers] of steps.entries()) {
        const context = { rec, inputs: buffers.inputs, capacity, tp, pp };
        const logits = decoder.forward(context, "samples");
        if (logits !== undefined) sampler?.sampleFree(rec, buffers, logits, sampledIds, step);
      }
      sampler?.publish(rec, sampledIds);
    });
  }

  /** Compiles a recording; from then on `prepare` chooses it for plans of its class. Smaller classes first. */
  async finish(capacity: number, recorder: Recorder, isBurst = false): Promise<CommandList> {
    const { device, run } = this.#shared;
    const { live } = this.#inputsOf(capacity, isBurst ? run.burstSteps : 1);
    const list = await device.finish(recorder, run.maxInFlight, live);
    (isBurst ? this.bursts : this.lists).set(capacity, list);
    return list;
  }

  /** Whether the burst that begins with this plan has a list; else its plans are replayed one by one. */
  holdsBurst(plan: StepPlan): boolean {
    const { numFollowers = 0 } = plan;
    const isWhole = numFollowers + 1 === this.#shared.run.burstSteps && numFollowers > 0;
    return isWhole && [...this.bursts.keys()].some((capacity) => numTokensOf(plan) <= capacity);
  }

  /** Writes a plan's inputs, or those of a burst's plans, for the list of their token class. */
  prepare(plans: readonly StepPlan[]): ReadyStep {
    const numTokens = Math.max(...plans.map(numTokensOf));
    for (const [capacity, list] of plans.length > 1 ? this.bursts : this.lists) {
      // ascending, as they were finished
      if (numTokens <= capacity) return { list, live: this.writeInputs(plans, capacity) };
    }
    throw new Error(`step ${plans[0]?.stepIndex}: ${numTokens} tokens; no list holds so many`);
  }

  /** The inputs of the list for `capacity` tokens in each of so many steps. */
  writeInputs(plans: readonly StepPlan[], capacity: number): LiveCounts {
    const inputs = this.#inputsOf(capacity, plans.length);
    const last = plans.at(-1); // whose contexts and block tables reach furthest
    if (last === undefined) throw new Error("inputs: expected a plan, got none");
    for (const sequence of last.sequences) this.#shared.blockTables.update(sequence);
    const tiles = plans.map((plan, step) => inputs.steps[step]?.fill(plan) ?? 0);
    const sampling = this.#own.sampler?.fill(plans, inputs.steps);
    const live = this.#liveCounts(last, { numPrefillTiles: Math.max(...tiles), ...sampling });
    inputs.upload(live);
    return live;
  }

  #inputsOf(capacity: number, numSteps = 1): ListInputs {
    const key = `${numSteps} of ${capacity}`;
    const known = this.#inputs.get(key);
    if (known !== undefined) return known;
    const { device, run, blockTables } = this.#shared;
    const { maxNumSeqs, blockSize } = run;
    const shape = { capacity, maxNumSeqs, blockSize };
    const inputs = new ListInputs(device, shape, blockTables.tensor, numSteps);
    this.#inputs.set(key, inputs);
    return inputs;
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
