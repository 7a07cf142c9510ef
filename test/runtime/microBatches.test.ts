import { expect, test } from "vitest";
import type { ExecutorLimits } from "../../src/runtime/executor/executor.ts";
import { prefillShare } from "../../src/runtime/microBatches.ts";
import { PipelineMeter } from "../../src/runtime/pipelineMeter.ts";
import { Scheduler } from "../../src/runtime/scheduler.ts";
import type { StepPlan } from "../../src/runtime/stepPlan.ts";
import { SimulatedModel } from "../support/simulatedModel.ts";
import { requestOf, vocabSize } from "../support/workload.ts";

const roomy: ExecutorLimits = {
  maxNumSeqs: 32,
  maxNumBatchedTokens: 2048,
  blockSize: 16,
  numBlocks: 1024,
  maxModelLen: 4096,
  vocabSize,
  maxInFlight: 2,
};

interface Run {
  readonly plans: readonly StepPlan[];
  readonly bubbleFraction: number;
}

/** Keeps as many plans in flight as the scheduler gives. */
function run(
  ppSize: number,
  prompts: readonly number[],
  maxTokens: number,
  maxInFlight = ppSize,
  more: Partial<ExecutorLimits> = {},
): Run {
  const limits = { ...roomy, ppSize, maxInFlight: Math.max(2, maxInFlight), ...more };
  const scheduler = new Scheduler(limits, { enablePrefixCaching: false });
  const model = new SimulatedModel(limits);
  for (const [seed, length] of prompts.entries()) {
    const prompt = Array.from({ length }, () => 1);
    scheduler.add(requestOf({ prompt, maxTokens, seed, ignoreEos: true }, seed, limits));
  }
  const plans: StepPlan[] = [];
  let numReturned = 0;
  while (scheduler.hasWork) {
    const plan = scheduler.schedule();
    if (plan !== null) plans.push(plan);
    const oldest = plans[numReturned];
    if (plan !== null || oldest === undefined) continue;
    scheduler.postprocess(model.run(oldest));
    numReturned += 1;
  }
  return { plans, bubbleFraction: scheduler.stats.bubbleFraction };
}

const ones = (n: number): number[] => Array.from({ length: n }, () => 1);

test.each([
  [1, 1],
  [2, 2],
  [2, 5],
  [3, 7],
  [4, 4],
  [4, 30],
])("%i stages, %i sequences: no plan waits for one that is still on its way", (ppSize, numSeqs) => {
  const { plans, bubbleFraction } = run(ppSize, ones(numSeqs), 100);
  const decodes = plans.slice(ppSize);
  for (const { stepIndex, dependsOnStep } of decodes) {
    expect(stepIndex - dependsOnStep).toBeGreaterThanOrEqual(ppSize);
  }
  const sizes = decodes.slice(ppSize, -2 * ppSize).map(({ sequences }) => sequences.length);
  expect(Math.max(...sizes)).toBe(Math.ceil(numSeqs / ppSize));
  expect(bubbleFraction).toBeLessThan(0.05);
});

test("fewer sequences than stages: the bubble is what they cannot fill", () => {
  expect(run(4, ones(1), 200).bubbleFraction).toBeCloseTo(0.75, 1);
  expect(run(4, ones(2), 200).bubbleFraction).toBeCloseTo(0.5, 1);
  // Still planned ahead: the GPU reads the token, no host stands between.
  const { plans } = run(2, ones(1), 50);
  expect(
    plans.slice(2).every(({ stepIndex, dependsOnStep }) => dependsOnStep === stepIndex - 1),
  ).toBe(true);
});

test("uneven groups even out as sequences end and come", () => {
  const limits = { ...roomy, ppSize: 2 };
  const scheduler = new Scheduler(limits, { enablePrefixCaching: false });
  const model = new SimulatedModel(limits);
  const maxTokens = [5, 100, 5, 100, 5, 100, 100, 100];
  for (const [seed, max] of maxTokens.entries()) {
    scheduler.add(requestOf({ prompt: [1], maxTokens: max, seed, ignoreEos: true }, seed, limits));
  }
  const sizes: number[] = [];
  const plans: StepPlan[] = [];
  for (let turn = 0; turn < 60; turn++) {
    for (let plan = scheduler.schedule(); plan !== null; plan = scheduler.schedule())
      plans.push(plan);
    const oldest = plans.shift();
    if (oldest === undefined) break;
    sizes.push(oldest.sequences.length);
    scheduler.postprocess(model.run(oldest));
  }
  expect(sizes.slice(30, 50).every((size) => size === 2 || size === 3)).toBe(true);
});

test("a lone prompt is cut so that all stages work on it, many prompts are not", () => {
  const sizesOf = ({ plans }: Run): number[] =>
    plans.map(({ sequences }) => sequences.reduce((sum, { numTokens }) => sum + numTokens, 0));
  expect(sizesOf(run(4, [1000], 1))).toEqual([250, 250, 250, 250]);
  expect(sizesOf(run(1, [1000], 1))).toEqual([1000]);
  expect(sizesOf(run(2, [100], 1))).toEqual([64, 36]);
  expect(
    sizesOf(
      run(
        2,
        Array.from({ length: 8 }, () => 1000),
        1,
      ),
    ),
  ).toEqual([2048, 2048, 2048, 1856]);
  expect(run(4, [3000], 1).bubbleFraction).toBeLessThan(0.5); // 4 of 7 unit steps a stage
});

test("a long prefill does not stall behind another sequence's decodes", () => {
  const { plans } = run(4, [1, 3800], 60, 6);
  const chunks = plans.filter(({ sequences }) => sequences.some(({ numTokens }) => numTokens > 1));
  for (const { stepIndex, dependsOnStep } of chunks) {
    expect(stepIndex - dependsOnStep).toBeGreaterThanOrEqual(Math.min(4, stepIndex + 1));
  }
});

test("the share of a prefill is kept until its burst is over", () => {
  expect(prefillShare(0, 1000, 1)).toBe(Number.POSITIVE_INFINITY);
  expect(prefillShare(0, 1000, 4)).toBe(250);
  expect(prefillShare(250, 500, 4)).toBe(250);
  expect(prefillShare(250, 2000, 4)).toBe(500);
  expect(prefillShare(250, 0, 4)).toBe(0);
  expect(prefillShare(0, 10, 4)).toBe(64);
});

test("the meter counts idle stage-steps while a plan is in flight", () => {
  const meter = new PipelineMeter(2);
  expect(meter.bubbleFraction).toBe(0);
  meter.planned(0, -1);
  expect(meter.bubbleFraction).toBe(0.5); // 2 units of time, each stage works in one
  meter.planned(1, -1);
  expect(meter.bubbleFraction).toBeCloseTo(1 / 3); // 3 units, 2 steps
  meter.returned(0);
  meter.returned(1);
  meter.planned(2, 1); // nothing was in flight: the pause counts for nobody
  expect(meter.bubbleFraction).toBeCloseTo(1 - 3 / 5);
  meter.planned(3, 2); // waits for the last stage
  expect(meter.bubbleFraction).toBeCloseTo(1 - 4 / 7);
});

test.each([
  [8, 1, [4, 4]],
  [8, 8, [4, 4]],
  [7, 8, [7, 7]], // too few: one plan takes them all, in every step
  [1, 2, [1, 1]],
])("%i decodes with a threshold of %i: %o a plan", (numSequences, minSplitDecodes, want) => {
  const limits = { numMicroBatches: 2, minSplitDecodes };
  const { plans } = run(2, ones(numSequences), 12, 4, limits);
  const sizes = plans.map(({ sequences }) => sequences.length);
  expect(sizes.slice(6, 8)).toEqual(want);
});
