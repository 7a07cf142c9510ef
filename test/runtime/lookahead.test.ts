import { expect, test } from "vitest";
import { Engine } from "../../src/runtime/engine.ts";
import { Lookahead } from "../../src/runtime/lookahead.ts";
import { letterCodec, SimulatedExecutor } from "../support/simulatedExecutor.ts";

const sizes = {
  maxNumSeqs: 2,
  maxNumBatchedTokens: 64,
  blockSize: 4,
  numBlocks: 64,
  maxModelLen: 128,
  vocabSize: 27,
  maxInFlight: 3,
};
const limits = { ...sizes, maxLongInFlight: 2 };

/** What may be in flight after outputs at these times. */
function plansAfter(...times: readonly number[]): number {
  const lookahead = new Lookahead(limits);
  for (const ms of times) lookahead.returned(ms);
  return lookahead.maxPlans;
}

test("one more plan once steps are short, by the mean of two to four of them", () => {
  expect(plansAfter()).toBe(2);
  expect(plansAfter(0)).toBe(2);
  expect(plansAfter(0, 1)).toBe(2);
  expect(plansAfter(0, 1, 2)).toBe(3);
  expect(plansAfter(0, 4, 5)).toBe(2);
  expect(plansAfter(0, 1, 2, 3, 3.4)).toBe(3);
});

test("an output that is seen late, and the next that seems early, change nothing; long steps do", () => {
  expect(plansAfter(0, 1, 2, 3, 6.9, 7)).toBe(3);
  expect(plansAfter(0, 3, 6, 9, 14.9, 15)).toBe(2);
  expect(plansAfter(0, 1, 2, 5, 8, 11)).toBe(2);
  expect(plansAfter(0, 3, 6, 9, 10, 11, 12)).toBe(3);
});

test("while short, decodes go in bursts, whose outputs count for all their steps", () => {
  const lookahead = new Lookahead({ ...limits, burstSteps: 4 });
  expect(lookahead.burstSteps).toBe(1);
  for (const ms of [0, 1, 2]) lookahead.returned(ms);
  expect(lookahead.burstSteps).toBe(4);
  for (const ms of [6, 10, 14, 18]) lookahead.returned(ms, 4);
  expect(lookahead.burstSteps).toBe(4);
  for (const ms of [30, 42, 54]) lookahead.returned(ms, 4);
  expect(lookahead.burstSteps).toBe(1);
});

test("a rest tells nothing of a step", () => {
  const lookahead = new Lookahead(limits);
  for (const ms of [0, 1, 2]) lookahead.returned(ms);
  lookahead.rested();
  expect(lookahead.maxPlans).toBe(3);
  for (const ms of [1000, 1001, 1002]) lookahead.returned(ms);
  expect(lookahead.maxPlans).toBe(3);
});

test("without a limit for long steps there is one for all", () => {
  expect(new Lookahead(sizes).maxPlans).toBe(3);
});

test.each([
  ["short", 1, 3],
  ["long", 5, 2],
])("an engine whose steps are %s, %d ms, keeps %d plans in flight", async (_, stepMs, plans) => {
  let clockMs = 0;
  const corrupt = <T>(output: T): T => {
    clockMs += stepMs;
    return output;
  };
  const executor = new SimulatedExecutor(limits, { corrupt });
  const engine = new Engine(executor, letterCodec, { now: () => clockMs });
  const sampling = { maxTokens: 40, ignoreEos: true };
  await engine.addRequest({ promptTokenIds: [1, 2, 3], sampling }).collect();
  expect(executor.checker.seen.maxInFlight).toBe(plans);
  expect(executor.numSteps).toBe(40);
});
