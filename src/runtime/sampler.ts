/**
 * Records sampling on the ranks of the last stage: biases, masks and penalties on this rank's slice of
 * the vocabulary, its best candidates, the pick on one rank, and the tokens' way to everyone.
 */
import type { Range } from "../../models/weights/weightSource.ts";
import { sizeOf } from "../../models/weights/weightSource.ts";
import type { Communicator, LiveRows } from "../collectives/communicator.ts";
import type { Device, Tensor } from "../device/device.ts";
import type { LiveCounts } from "../device/liveCounts.ts";
import type { Recorder } from "../device/recorder.ts";
import { CANDIDATE_WORDS } from "../kernels/sampling/candidateLayout.ts";
import { topCandidates } from "../kernels/sampling/candidates.ts";
import {
  applyPenalties,
  countsOf,
  packPenaltyPart,
  PENALTY_PART_WORDS,
  tokenCounts,
} from "../kernels/sampling/penalties.ts";
import { pickToken, sampleFull, sampleLocal } from "../kernels/sampling/pickToken.ts";
import { packSamplingRow, type SamplingRow } from "../kernels/sampling/samplingRow.ts";
import { FullRowExchange } from "./fullRowExchange.ts";
import { promptRows } from "./promptRows.ts";
import { LogitEdits } from "./logitEdits.ts";
import { LogprobExchange } from "./logprobExchange.ts";
import type { RankSpec, RunSpec } from "./rankSpec.ts";
import {
  gpuSamplingParams,
  isGreedy,
  mayNeedWide,
  needsFilter,
  needsPenalties,
  resolveSamplingParams,
} from "./samplingParams.ts";
import type { StepBuffers } from "./stepInputs.ts";
import type { ScheduledSequence, StepPlan } from "./stepPlan.ts";
import type { TokenExchange } from "./tokenExchange.ts";

/** What a sampler shares with those of other lanes, and its lane's communicator. */
export interface SamplerState {
  readonly tp: Communicator;
  readonly tokens: TokenExchange;
  readonly lastToken: Tensor; // [maxNumSeqs + 1] u32
  readonly counts: Tensor; // [maxNumSeqs, vocab of this rank] u32
}

/** In a tp group, the rank that picks. */
const PICKING_RANK = 0;

/** A row whose logits are asked for, but no token. */
const UNUSED_ROW: Omit<SamplingRow, "slot"> = {
  ...gpuSamplingParams(resolveSamplingParams({ temperature: 0, seed: 0 })),
  position: 0,
  isGreedy: true,
  hasPenalties: false,
  isFiltered: false,
  isWide: false,
  maskRow: undefined,
};

/** A step whose rows are filled. */
interface FilledStep {
  readonly stepIndex: number;
  /** Rows that are a sequence's next token. */
  readonly numSampled: number;
}

export class Sampler {
  readonly #tp: Communicator;
  readonly #tokens: TokenExchange;
  readonly #lastToken: Tensor; // [maxNumSeqs] u32
  readonly #vocab: Range;
  readonly #vocabSize: number;
  readonly #counts: Tensor; // [maxNumSeqs, vocab of this rank] u32
  readonly #penaltyParts: Tensor; // [maxNumSeqs, 4] u32
  readonly #edits: LogitEdits;
  readonly #logprobs: LogprobExchange;
  readonly #device: Device;
  #steps: readonly FilledStep[] = []; // those whose rows were filled last
  readonly #unusedSlot: number;

  constructor(
    device: Device,
    { run, model }: RankSpec,
    { tp, tokens, lastToken, counts }: SamplerState,
    vocab: Range,
  ) {
    this.#device = device;
    this.#tp = tp;
    this.#tokens = tokens;
    this.#lastToken = lastToken;
    this.#vocab = vocab;
    this.#vocabSize = model.config.vocabSize;
    this.#counts = counts;
    this.#unusedSlot = run.maxNumSeqs;
    const shape = [run.maxNumSeqs, PENALTY_PART_WORDS];
    this.#penaltyParts = device.empty(shape, "u32", "penalty parts");
    this.#edits = new LogitEdits(device, vocab, this.#vocabSize, run.maxNumSeqs);
    this.#logprobs = new LogprobExchange(tp, PICKING_RANK);
  }

  /** How often each sequence has had each token, for penalties. */
  static createCounts(device: Device, { maxNumSeqs }: RunSpec, vocab: Range): Tensor {
    return device.empty([maxNumSeqs, sizeOf(vocab)], "u32", "token counts");
  }

  /** Writes the sampling rows of a step, or of a burst's; returns the counts that their launches depend on. */
  fill(plans: readonly StepPlan[], steps: readonly StepBuffers[]): Partial<LiveCounts> {
    let counts: Partial<LiveCounts> = {};
    for (const [index, buffers] of steps.entries()) {
      const plan = plans[index];
      if (plan !== undefined) counts = this.#fillStep(plan, buffers);
    }
    this.#steps = plans.map(({ stepIndex, sequences }) => ({
      stepIndex,
      numSampled: sequences.filter(({ samples }) => samples).length,
    }));
    return counts;
  }

  #fillStep(plan: StepPlan, buffers: StepBuffers): Partial<LiveCounts> {
    const rows = buffers.field("samplingRows");
    const sampled = plan.sequences.filter(({ samples }) => samples);
    const edits = this.#edits.fill(sampled);
    for (const [index, sequence] of sampled.entries()) {
      packSamplingRow(rows, index, samplingRow(sequence, edits.maskRows[index]));
    }
    const ofPrompts = promptRows(plan);
    for (const index of ofPrompts.keys()) {
      packSamplingRow(rows, sampled.length + index, { ...UNUSED_ROW, slot: this.#unusedSlot });
    }
    const count = (test: (sampling: ScheduledSequence["sampling"]) => boolean): number =>
      sampled.filter(({ sampling }) => test(sampling)).length;
    return {
      numPenalized: this.#writePenaltyParts(plan),
      numFiltered: count(needsFilter),
      numWide: count(mayNeedWide),
      numLogprobRows: this.#logprobs.fill(sampled, ofPrompts),
      ...edits.live,
    };
  }

  /** First in a step: counts the tokens that it feeds to sequences with penalties. */
  countTokens(rec: Recorder, { inputs }: StepBuffers): void {
    tokenCounts(rec, {
      penaltyParts: this.#penaltyParts,
      tokenIds: inputs.tokenIds,
      lastToken: this.#lastToken.view([this.#unusedSlot]),
      counts: this.#counts,
      firstTokenId: this.#vocab.begin,
    });
  }

  /**
   * logits: [maxSamples, vocab of this rank]. The order is that of vLLM's V1 sampler: log-probabilities of
   * the raw logits; allowed tokens, bans of minTokens and biases (which commute, since what is -Infinity
   * stays so); penalties; then temperature, filters and the draw.
   */
  sample(rec: Recorder, buffers: StepBuffers, logits: Tensor): void {
    const { samplingRows } = buffers;
    this.#logprobs.record(rec, logits);
    this.#edits.record(rec, samplingRows, logits);
    applyPenalties(rec, { samplingRows, counts: this.#counts, logits });
    const [maxSamples = 0] = logits.shape;
    const sampledIds = rec.alloc("sampled ids", [1, maxSamples], "u32");
    if (this.#tp.worldSize === 1) {
      this.sampleFree(rec, buffers, logits, sampledIds);
    } else {
      this.#sampleSharded(rec, buffers, logits, sampledIds.view([maxSamples]));
    }
    if (this.#tokens.isRoot) this.publish(rec, sampledIds);
  }

  /**
   * Of one rank alone: the draw from logits as they are, into a row of sampledIds [numSteps, maxSamples or more].
   * Nothing is published.
   */
  sampleFree(
    rec: Recorder,
    { samplingRows }: StepBuffers,
    logits: Tensor,
    sampledIds: Tensor,
    step = 0,
  ): void {
    const [maxSamples = 0] = logits.shape;
    const [, stride = 0] = sampledIds.shape;
    const row = sampledIds.view([maxSamples], step * stride);
    const lastToken = this.#lastToken;
    sampleLocal(rec, { logits, samplingRows, sampledIds: row, lastToken });
  }

  #sampleSharded(rec: Recorder, buffers: StepBuffers, logits: Tensor, sampledIds: Tensor): void {
    const { samplingRows } = buffers;
    const [maxSamples = 0] = logits.shape;
    const candidates = rec.alloc("candidates", [maxSamples, CANDIDATE_WORDS], "u32");
    topCandidates(rec, { logits, firstTokenId: this.#vocab.begin, samplingRows, candidates });
    const isPicker = this.#tp.rank === PICKING_RANK;
    const listShape = [this.#tp.worldSize, maxSamples, CANDIDATE_WORDS];
    const lists = isPicker ? rec.alloc("gathered candidates", listShape, "u32") : undefined;
    const rows: LiveRows = (live) => live.numSamples;
    this.#tp.gather(rec, "candidates", candidates, PICKING_RANK, rows, lists);

    const exchange = new FullRowExchange(this.#device, this.#tp, this.#vocabSize);
    const full = exchange.record(rec, {
      samplingRows: buffers.field("samplingRows"),
      lists,
      logits,
    });
    if (lists === undefined || full === undefined) return;
    const { fullRows, fullLogits } = full;
    const lastToken = this.#lastToken;
    pickToken(rec, { lists, samplingRows, sampledIds, lastToken, fullRows, hostDecides: true });
    sampleFull(rec, { logits: fullLogits, samplingRows, fullRows, sampledIds, lastToken });
  }

  /** The tokens of the list's steps, [numSteps, maxSamples or more], go to the host while the next is under way. */
  publish(rec: Recorder, sampledIds: Tensor): void {
    const [numSteps = 0, stride = 0] = sampledIds.shape;
    rec.hostOp({
      label: "sampled tokens",
      downloads: [sampledIds],
      downloadBytes: (live) => ((numSteps - 1) * stride + live.numSamples) * 4,
      detached: true,
      run: async (io) => {
        const all = io.download(0).then((mapped) => mapped.slice().buffer);
        const sent = this.#steps.map(({ stepIndex, numSampled }, step) => {
          const sampled = all.then((ids) => new Uint32Array(ids, step * stride * 4, numSampled));
          return this.#tokens.publish(stepIndex, sampled, this.#logprobs.take());
        });
        await Promise.all(sent);
      },
    });
  }

  /** Rows for the sequences of this step that have penalties; returns how many. */
  #writePenaltyParts(plan: StepPlan): number {
    const parts = new Uint32Array(plan.sequences.length * PENALTY_PART_WORDS);
    let [index, firstTokenRow] = [0, 0];
    for (const sequence of plan.sequences) {
      const { slot, startPosition, numTokens, promptLength, isFirst, sampling } = sequence;
      if (needsPenalties(sampling)) {
        const numPrompt = Math.max(0, Math.min(numTokens, promptLength - startPosition));
        const { cachedTokenIds } = sequence;
        if (cachedTokenIds !== undefined) this.#writeCounts(slot, cachedTokenIds, promptLength);
        const isCleared = isFirst && cachedTokenIds === undefined;
        const counted = { slot, firstTokenRow, numTokens, numPromptTokens: numPrompt };
        packPenaltyPart(parts, index, { ...counted, isFirst: isCleared });
        index += 1;
      }
      firstTokenRow += numTokens;
    }
    if (index > 0) {
      const bytes = new Uint8Array(parts.buffer, 0, index * PENALTY_PART_WORDS * 4);
      this.#device.write(this.#penaltyParts, bytes);
    }
    return index;
  }

  /** Tokens that no step feeds, as the KV cache holds them already: a slot's counts start with these. */
  #writeCounts(slot: number, tokenIds: readonly number[], promptLength: number): void {
    const row = countsOf(tokenIds, promptLength, this.#vocab);
    this.#device.write(this.#counts, new Uint8Array(row.buffer), slot * row.byteLength);
  }
}

function samplingRow(sequence: ScheduledSequence, maskRow: number | undefined): SamplingRow {
  const { slot, samplePosition, sampling } = sequence;
  return {
    ...sampling,
    slot,
    position: samplePosition,
    isGreedy: isGreedy(sampling),
    hasPenalties: needsPenalties(sampling),
    isFiltered: needsFilter(sampling),
    isWide: mayNeedWide(sampling),
    maskRow,
  };
}
