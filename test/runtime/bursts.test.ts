/** When an engine submits steps together, and when it must not. */
import { expect, test } from "vitest";
import { Engine } from "../../src/runtime/engine.ts";
import type { ExecutorLimits } from "../../src/runtime/executor/executor.ts";
import type { SamplingOptions } from "../../src/runtime/samplingParams.ts";
import { profiledPlan } from "../../src/runtime/soloPlans.ts";
import type { StepPlan } from "../../src/runtime/stepPlan.ts";
import { tokenMaskOf } from "../../src/runtime/tokenMask.ts";
import { RankTrace } from "../../src/runtime/trace/rankTrace.ts";
import { letterCodec, SimulatedExecutor } from "../support/simulatedExecutor.ts";
import { expectedCompletion } from "../support/simulatedModel.ts";

const BURST = 4;
const limits: ExecutorLimits = {
  maxNumSeqs: 3,
  maxNumBatchedTokens: 64,
  blockSize: 4,
  numBlocks: 64,
  maxModelLen: 128,
  vocabSize: 27,
  maxInFlight: 3,
  maxLongInFlight: 2,
  burstSteps: BURST,
};
const prompt = [1, 2, 3];
const soon = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** An engine whose steps take so long, by a clock that outputs move. */
function engineOf(
  stepMs: number,
  sizes: Partial<ExecutorLimits> = {},
): { engine: Engine; executor: SimulatedExecutor } {
  let clockMs = 0;
  const corrupt = <T>(output: T): T => {
    clockMs += stepMs;
    return output;
  };
  const executor = new SimulatedExecutor({ ...limits, ...sizes }, { corrupt });
  return { executor, engine: new Engine(executor, letterCodec, { now: () => clockMs }) };
}

async function burstsOf(stepMs: number, sampling: SamplingOptions = {}): Promise<number> {
  const { engine, executor } = engineOf(stepMs);
  const options = { maxTokens: 40, ignoreEos: true, ...sampling };
  const stream = engine.addRequest({ promptTokenIds: prompt, sampling: options });
  const { tokenIds } = await stream.collect();
  const { request } = stream;
  expect(tokenIds).toEqual(expectedCompletion(prompt, request.sampling, request, limits));
  expect(executor.numSteps).toBeGreaterThanOrEqual(tokenIds.length);
  return executor.checker.seen.bursts;
}

test("short decodes go in bursts, two under way at once; long ones do not", async () => {
  // One of prefill, singles until steps are known to be short and some are in flight, and at the end.
  expect(await burstsOf(1)).toBe(8);
  expect(await burstsOf(5)).toBe(0);
});

test("at most two bursts are in flight, and a step behind them where the last tokens make no burst", async () => {
  const { engine, executor } = engineOf(1);
  const sampling = { maxTokens: 60, ignoreEos: true };
  await engine.addRequest({ promptTokenIds: prompt, sampling }).collect();
  expect(executor.checker.seen.maxInFlight).toBe(2 * BURST + 1);
});

test.each([
  ["penalties", { presencePenalty: 1 }],
  ["a bias", { logitBias: { 3: 1 } }],
  ["log-probabilities", { logprobs: 1 }],
  ["stop tokens that are banned", { minTokens: 40, ignoreEos: false }],
])("decodes with %s need the host, and go one by one", async (_, sampling) => {
  expect(await burstsOf(1, sampling)).toBe(0);
});

test("as soon as minTokens are there, bursts begin", async () => {
  expect(await burstsOf(1, { minTokens: 20, stopTokenIds: [26], seed: 3 })).toBeGreaterThan(0);
});

test("a mask needs each token before the next step", async () => {
  const { engine, executor } = engineOf(1);
  const allowedTokens = (): ReturnType<typeof tokenMaskOf> => tokenMaskOf([1, 2, 3, 4], 27);
  const sampling = { maxTokens: 20, ignoreEos: true };
  await engine.addRequest({ promptTokenIds: prompt, sampling, allowedTokens }).collect();
  expect(executor.checker.seen.bursts).toBe(0);
});

test("a stop in the middle of a burst ends the request there", async () => {
  const { engine, executor } = engineOf(1);
  const lengths: number[] = [];
  for (let seed = 0; seed < 30; seed++) {
    const sampling = { maxTokens: 60, seed };
    const stream = engine.addRequest({ promptTokenIds: prompt, sampling });
    const { tokenIds } = await stream.collect();
    const { request } = stream;
    expect(tokenIds).toEqual(expectedCompletion(prompt, request.sampling, request, limits));
    lengths.push(tokenIds.length);
  }
  expect(executor.checker.seen.bursts).toBeGreaterThan(20);
  expect(new Set(lengths.filter((length) => length < 60).map((n) => n % BURST)).size).toBe(BURST);
  while (engine.stats.numPlansInFlight > 0) await soon();
  expect(engine.stats).toMatchObject({ numRunning: 0, numDraining: 0, numUsedBlocks: 0 });
});

test("a request that comes is planned behind what is under way, and bursts wait for it", async () => {
  const { engine, executor } = engineOf(1, { maxNumSeqs: 2 });
  const sampling = { maxTokens: 60, ignoreEos: true };
  const first = engine.addRequest({ promptTokenIds: prompt, sampling });
  let numBefore = 0;
  for await (const { tokenId } of first) {
    if (tokenId !== null && ++numBefore === 30) break;
  }
  const stepsBefore = executor.numSteps;
  const second = engine.addRequest({ promptTokenIds: [4, 5], sampling: { maxTokens: 1 } });
  await second.collect();
  expect(executor.numSteps - stepsBefore).toBeLessThanOrEqual(2 * BURST + 1);
});

test("with too few free blocks for all steps there is no burst", async () => {
  // 3 + 38 positions of 40: never four more blocks than the sequence has.
  const { engine, executor } = engineOf(1, { numBlocks: 41, blockSize: 1 });
  const sampling = { maxTokens: 38, ignoreEos: true };
  const [one, two] = [0, 1].map(() => engine.addRequest({ promptTokenIds: prompt, sampling }));
  await Promise.all([one?.collect(), two?.collect()]);
  expect(engine.stats.numPreemptions).toBeGreaterThan(0);
  expect(executor.checker.seen.bursts).toBeGreaterThan(0);
});

test("in a rank's trace a burst is one span, with all its tokens", async () => {
  const trace = new RankTrace(0);
  const planOf = (stepIndex: number): StepPlan => ({
    ...profiledPlan({ phase: "decode", length: 5, batchSize: 3 }, 8, 16),
    stepIndex,
  });
  trace.step([planOf(7)], Promise.resolve(), 0);
  trace.step([8, 9, 10, 11].map(planOf), Promise.resolve(), 0);
  const { spans } = await trace.process();
  expect(spans.map(({ name, args }) => [name, args])).toEqual([
    ["step 7", { step: 7, sequences: 3, tokens: 3 }],
    ["steps 8 to 11", { step: 8, sequences: 3, tokens: 12 }],
  ]);
});
