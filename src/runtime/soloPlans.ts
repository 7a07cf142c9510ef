/** Plans made by hand, for whoever has all slots and blocks to itself: taps and profiles. */
import { ceilDiv } from "../common/math.ts";
import type { ProfiledStep } from "./executor/rankHandle.ts";
import type { GpuSamplingParams } from "./samplingParams.ts";
import type { StepPlan } from "./stepPlan.ts";

/** No step of the scheduler's. */
const NO_STEP = { stepIndex: -1, dependsOnStep: -1 };

const GREEDY: GpuSamplingParams = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: 0,
};

/** A chunk of one sequence in slot 0 and the first blocks; nothing is sampled. */
export function chunkPlan(
  tokenIds: readonly number[],
  startPosition: number,
  blockSize: number,
): StepPlan {
  const end = startPosition + tokenIds.length;
  const sequence = {
    slot: 0,
    isFirst: startPosition === 0,
    startPosition,
    numTokens: tokenIds.length,
    tokenIds,
    blockTable: Array.from({ length: ceilDiv(end, blockSize) }, (_, block) => block),
    promptLength: end,
    samples: false,
    sampling: GREEDY,
    samplePosition: 0,
  };
  return { ...NO_STEP, sequences: [sequence] };
}

/** Equal sequences in one step; their blocks wrap around where the cache is smaller. */
export function profiledPlan(
  { phase, length, batchSize }: ProfiledStep,
  numBlocks: number,
  blockSize: number,
): StepPlan {
  const [startPosition, numTokens] = phase === "decode" ? [length, 1] : [0, length];
  const end = startPosition + numTokens;
  const blocksEach = ceilDiv(end, blockSize);
  const sequences = Array.from({ length: batchSize }, (_, slot) => ({
    slot,
    isFirst: true,
    startPosition,
    numTokens,
    tokenIds: Array.from({ length: numTokens }, (_t, i) => i % 100),
    blockTable: Array.from({ length: blocksEach }, (_b, i) => (slot * blocksEach + i) % numBlocks),
    promptLength: end,
    samples: true,
    sampling: GREEDY,
    samplePosition: end,
  }));
  return { ...NO_STEP, sequences };
}
