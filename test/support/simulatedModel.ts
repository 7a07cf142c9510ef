/**
 * A stand-in for the model and its KV cache. The next token is a hash of what the plan's block table and
 * positions reveal of the cache, so a wrong table, a wrong position, a missing recompute or a stale
 * lastToken changes the text. `expectedCompletion` computes the same from the plain history.
 */
import type { CompletionParams } from "../../src/runtime/completionParams.ts";
import type { ExecutorLimits } from "../../src/runtime/executor/executor.ts";
import type { AllowedTokens } from "../../src/runtime/request.ts";
import { type GpuSamplingParams, needsPenalties } from "../../src/runtime/samplingParams.ts";
import type {
  LogitBias,
  ScheduledSequence,
  StepOutput,
  StepPlan,
  TokenLogprobs,
} from "../../src/runtime/stepPlan.ts";
import { allowsToken, decodeTokenMask } from "../../src/runtime/tokenMask.ts";

interface Cell {
  readonly position: number;
  readonly tokenId: number;
}

// As penalty counts are: free of order, of prompt and completion apart.
interface Counts {
  prompt: number;
  completion: number;
}

interface SlotState {
  lastToken: number;
  counts: Counts;
}

// What keeps the sampled token from being just any.
interface Constraints {
  readonly logitBias: readonly LogitBias[];
  readonly isAllowed: (tokenId: number) => boolean;
}

/** Like the ranks together: a paged cache, and per slot the last token and the penalty counts. */
export class SimulatedModel {
  readonly #limits: ExecutorLimits;
  readonly #cells: Cell[]; // [numBlocks * blockSize]
  readonly #slots: SlotState[];

  constructor(limits: ExecutorLimits) {
    this.#limits = limits;
    const unwritten = { position: -1, tokenId: -1 };
    this.#cells = Array.from({ length: limits.numBlocks * limits.blockSize }, () => unwritten);
    const slots = { length: limits.maxNumSeqs };
    this.#slots = Array.from(slots, () => ({ lastToken: -1, counts: noCounts() }));
  }

  run({ stepIndex, sequences }: StepPlan): StepOutput {
    const tokenIds: number[] = [];
    const logprobs: (TokenLogprobs | null)[] = [];
    for (const sequence of sequences) {
      const tokenId = this.#runSequence(sequence);
      if (!sequence.samples) continue;
      tokenIds.push(tokenId);
      const { numLogprobs, samplePosition } = sequence;
      logprobs.push(
        numLogprobs === undefined ? null : simulatedLogprobs(tokenId, samplePosition, numLogprobs),
      );
    }
    const promptLogprobs = sequences.flatMap(promptLogprobsOf);
    return {
      stepIndex,
      tokenIds,
      ...(logprobs.some((entry) => entry !== null) ? { logprobs } : {}),
      ...(promptLogprobs.length > 0 ? { promptLogprobs } : {}),
    };
  }

  #runSequence(sequence: ScheduledSequence): number {
    const { startPosition, numTokens, promptLength, sampling, samplePosition } = sequence;
    const state = at(this.#slots, sequence.slot);
    if (sequence.isFirst) {
      state.counts = noCounts();
      for (const [position, tokenId] of (sequence.cachedTokenIds ?? []).entries())
        count(state.counts, position < promptLength, tokenId);
    }
    const tokenIds = sequence.tokenIds ?? [state.lastToken];
    for (let i = 0; i < numTokens; i++) {
      const [position, tokenId] = [startPosition + i, at(tokenIds, i)];
      this.#cells[this.#cellIndex(sequence, position)] = { position, tokenId };
      count(state.counts, position < promptLength, tokenId);
    }
    const end = startPosition + numTokens;
    const history = Array.from({ length: end }, (_, p) =>
      at(this.#cells, this.#cellIndex(sequence, p)),
    );
    const constraints = constraintsOf(sequence, this.#limits);
    const { counts } = state;
    const place = { samplePosition, constraints };
    const tokenId = nextToken(history, counts, sampling, place, this.#limits);
    if (sequence.samples) state.lastToken = tokenId;
    return tokenId;
  }

  #cellIndex({ blockTable }: ScheduledSequence, position: number): number {
    const { blockSize } = this.#limits;
    return at(blockTable, Math.floor(position / blockSize)) * blockSize + (position % blockSize);
  }
}

function noCounts(): Counts {
  return { prompt: 0, completion: 0 };
}

function count(counts: Counts, isPrompt: boolean, tokenId: number): void {
  if (isPrompt) counts.prompt += tokenId + 1;
  else counts.completion += tokenId + 1;
}

function constraintsOf(sequence: ScheduledSequence, { vocabSize }: ExecutorLimits): Constraints {
  const { logitBias = [], bannedTokenIds = [], allowedTokens } = sequence;
  const mask = allowedTokens === undefined ? null : decodeTokenMask(allowedTokens, vocabSize);
  const isAllowed = (id: number): boolean =>
    !bannedTokenIds.includes(id) && (mask === null || allowsToken(mask, id));
  return { logitBias, isAllowed };
}

function promptLogprobsOf({ promptLogprobs, startPosition }: ScheduledSequence): TokenLogprobs[][] {
  if (promptLogprobs === undefined) return [];
  const { targetTokenIds, numLogprobs } = promptLogprobs;
  return [targetTokenIds.map((id, i) => simulatedLogprobs(id, startPosition + i + 1, numLogprobs))];
}

/** What the model reports of a token at a position. */
export function simulatedLogprobs(
  tokenId: number,
  position: number,
  numLogprobs: number,
): TokenLogprobs {
  const top = Array.from({ length: numLogprobs }, (_, i) => [i, -i - 1] as const);
  return { tokenId, logprob: -position, top };
}

function nextToken(
  history: readonly Cell[],
  counts: Counts,
  sampling: GpuSamplingParams,
  place: { readonly samplePosition: number; readonly constraints: Constraints },
  { vocabSize }: ExecutorLimits,
): number {
  let hash = sampling.seed;
  const mix = (value: number): void => {
    hash = Math.imul(hash ^ value, 0x9e3779b1);
    hash ^= hash >>> 15;
  };
  for (const { position, tokenId } of history) {
    mix(position);
    mix(tokenId);
  }
  if (needsPenalties(sampling)) {
    mix(counts.prompt);
    mix(counts.completion);
  }
  mix(place.samplePosition);
  for (const [tokenId, bias] of place.constraints.logitBias) mix(tokenId + bias);
  for (let step = 0; step < vocabSize; step++) {
    const tokenId = ((hash >>> 0) + step) % vocabSize;
    if (place.constraints.isAllowed(tokenId)) return tokenId;
  }
  return (hash >>> 0) % vocabSize;
}

/** How a completion ends, and what it may hold. */
export interface ExpectedEnd {
  readonly maxTokens: number;
  readonly stopTokenIds: ReadonlySet<number>;
  readonly allowedTokens?: AllowedTokens | null;
}

/** What a request must give, whatever it ran beside: computed without cache, slots or plans. */
export function expectedCompletion(
  prompt: readonly number[],
  sampling: GpuSamplingParams & Partial<CompletionParams>,
  end: ExpectedEnd,
  limits: ExecutorLimits,
): number[] {
  const { minTokens = 0, logitBias = {} } = sampling;
  const biases = Object.entries(logitBias).map(([id, bias]): LogitBias => [Number(id), bias]);
  const history = prompt.map((tokenId, position) => ({ position, tokenId }));
  const counts = noCounts();
  for (const tokenId of prompt) count(counts, true, tokenId);
  const completion: number[] = [];
  while (completion.length < end.maxTokens) {
    const position = history.length;
    const mask = end.allowedTokens?.(completion) ?? null;
    const isBanned = (id: number): boolean =>
      completion.length < minTokens && end.stopTokenIds.has(id);
    const isAllowed = (id: number): boolean =>
      !isBanned(id) && (mask === null || allowsToken(mask, id));
    const constraints = { logitBias: biases, isAllowed };
    const place = { samplePosition: position, constraints };
    const tokenId = nextToken(history, counts, sampling, place, limits);
    completion.push(tokenId);
    history.push({ position, tokenId });
    count(counts, false, tokenId);
    if (completion.length > minTokens && end.stopTokenIds.has(tokenId)) break;
  }
  return completion;
}

/** Element or a failed test. */
export function at<T>(values: readonly T[], index: number): T {
  const value = values[index];
  if (value === undefined) throw new Error(`index ${index} is outside 0 to ${values.length - 1}`);
  return value;
}
