import { expect, test } from "vitest";
import { maxLogitBiases } from "../../../src/runtime/completionParams.ts";
import {
  createStepQueue,
  outputQueueBytes,
  planQueueBytes,
  StepQueue,
} from "../../../src/runtime/executor/stepQueue.ts";
import { gpuSamplingParams, resolveSamplingParams } from "../../../src/runtime/samplingParams.ts";
import type { ScheduledSequence, StepOutput, StepPlan } from "../../../src/runtime/stepPlan.ts";
import { encodeTokenMask, fullTokenMask } from "../../../src/runtime/tokenMask.ts";

const VOCAB = 128_256;
const SIZES = {
  maxInFlight: 3,
  maxNumSeqs: 16,
  maxNumBatchedTokens: 2048,
  maxModelLen: 8192,
  blockSize: 16,
};

function largestSequence(slot: number): ScheduledSequence {
  return {
    slot,
    isFirst: true,
    startPosition: 1000,
    numTokens: 128,
    tokenIds: new Array<number>(128).fill(VOCAB - 1),
    blockTable: new Array<number>(512).fill(100_000),
    promptLength: 8192,
    samples: true,
    sampling: gpuSamplingParams(resolveSamplingParams({ temperature: Math.PI, topP: 1 / 3 })),
    samplePosition: 8192,
    logitBias: Array.from({ length: maxLogitBiases }, (_, i) => [127_000 + i, -100 / 3] as const),
    allowedTokens: encodeTokenMask(fullTokenMask(VOCAB)),
    numLogprobs: 20,
  };
}

test("a queue holds maxInFlight of the largest plans, and their outputs", async () => {
  const plan: StepPlan = {
    stepIndex: 1_000_000,
    sequences: Array.from({ length: SIZES.maxNumSeqs }, (_, slot) => largestSequence(slot)),
    dependsOnStep: 999_999,
  };
  const top = Array.from({ length: 20 }, () => [VOCAB - 1, -Math.PI * 1e-7] as const);
  const logprobs = plan.sequences.map(() => ({ tokenId: VOCAB - 1, logprob: -Math.PI, top }));
  const output: StepOutput = {
    stepIndex: plan.stepIndex,
    tokenIds: plan.sequences.map(() => VOCAB - 1),
    logprobs,
  };
  const plans = new StepQueue(createStepQueue(planQueueBytes(SIZES, VOCAB)));
  const outputs = new StepQueue(createStepQueue(outputQueueBytes(SIZES)));
  for (let i = 0; i < SIZES.maxInFlight; i++) {
    plans.push(plan);
    outputs.push({ stepIndex: plan.stepIndex, output });
  }
  for (let i = 0; i < SIZES.maxInFlight; i++) {
    expect(await plans.pop()).toEqual(plan);
    expect(await outputs.pop()).toEqual({ stepIndex: plan.stepIndex, output });
  }
});

test("capacities are powers of two, at least 1 MiB", () => {
  const small = { ...SIZES, maxNumSeqs: 1, maxModelLen: 64, maxNumBatchedTokens: 8 };
  expect(planQueueBytes(small, 512)).toBe(2 ** 20);
  expect(outputQueueBytes(small)).toBe(2 ** 20);
  const huge = { ...SIZES, maxNumSeqs: 4096 };
  expect(planQueueBytes(huge, 1_000_000)).toBe(2 ** 31);
  expect(Math.log2(planQueueBytes(SIZES, VOCAB)) % 1).toBe(0);
});
