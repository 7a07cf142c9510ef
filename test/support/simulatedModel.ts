/**
 * A stand-in for the model and its KV cache. The next token is a hash of what the plan's block table and
 * positions reveal of the cache, so a wrong table, a wrong position, a missing recompute or a stale
 * lastToken changes the text. `expectedCompletion` computes the same from the plain history.
 */
import type { ExecutorLimits } from "../../src/runtime/executor/executor.ts";
import type { GpuSamplingParams } from "../../src/runtime/samplingParams.ts";
import type { ScheduledSequence, StepOutput, StepPlan } from "../../src/runtime/stepPlan.ts";

interface Cell {
  readonly position: number;
  readonly tokenId: number;
}

interface SlotState {
  lastToken: number;
  completionSum: number; // order-free, as penalty counts are: of tokens at promptLength and after
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
    this.#slots = Array.from(slots, () => ({ lastToken: -1, completionSum: 0 }));
  }

  run({ stepIndex, sequences }: StepPlan): StepOutput {
    const tokenIds: number[] = [];
    for (const sequence of sequences) {
      const tokenId = this.#runSequence(sequence);
      if (sequence.samples) tokenIds.push(tokenId);
    }
    return { stepIndex, tokenIds };
  }

  #runSequence(sequence: ScheduledSequence): number {
    const { startPosition, numTokens, promptLength, sampling, samplePosition } = sequence;
    const state = at(this.#slots, sequence.slot);
    if (sequence.isFirst) state.completionSum = 0;
    const tokenIds = sequence.tokenIds ?? [state.lastToken];
    for (let i = 0; i < numTokens; i++) {
      const [position, tokenId] = [startPosition + i, at(tokenIds, i)];
      this.#cells[this.#cellIndex(sequence, position)] = { position, tokenId };
      if (position >= promptLength) state.completionSum += tokenId + 1;
    }
    const end = startPosition + numTokens;
    const history = Array.from({ length: end }, (_, p) =>
      at(this.#cells, this.#cellIndex(sequence, p)),
    );
    const tokenId = nextToken(history, state.completionSum, sampling, samplePosition, this.#limits);
    if (sequence.samples) state.lastToken = tokenId;
    return tokenId;
  }

  #cellIndex({ blockTable }: ScheduledSequence, position: number): number {
    const { blockSize } = this.#limits;
    return at(blockTable, Math.floor(position / blockSize)) * blockSize + (position % blockSize);
  }
}

function nextToken(
  history: readonly Cell[],
  completionSum: number,
  { seed }: GpuSamplingParams,
  samplePosition: number,
  { vocabSize }: ExecutorLimits,
): number {
  let hash = seed;
  const mix = (value: number): void => {
    hash = Math.imul(hash ^ value, 0x9e3779b1);
    hash ^= hash >>> 15;
  };
  for (const { position, tokenId } of history) {
    mix(position);
    mix(tokenId);
  }
  mix(completionSum);
  mix(samplePosition);
  return (hash >>> 0) % vocabSize;
}

/** What a request must give, whatever it ran beside: computed without cache, slots or plans. */
export function expectedCompletion(
  prompt: readonly number[],
  sampling: GpuSamplingParams,
  end: { readonly maxTokens: number; readonly stopTokenIds: ReadonlySet<number> },
  limits: ExecutorLimits,
): number[] {
  const history = prompt.map((tokenId, position) => ({ position, tokenId }));
  const completion: number[] = [];
  while (completion.length < end.maxTokens) {
    const sum = completion.reduce((total, tokenId) => total + tokenId + 1, 0);
    const position = history.length;
    const tokenId = nextToken(history, sum, sampling, position, limits);
    completion.push(tokenId);
    history.push({ position, tokenId });
    if (end.stopTokenIds.has(tokenId)) break;
  }
  return completion;
}

/** Element or a failed test. */
export function at<T>(values: readonly T[], index: number): T {
  const value = values[index];
  if (value === undefined) throw new Error(`index ${index} is outside 0 to ${values.length - 1}`);
  return value;
}
