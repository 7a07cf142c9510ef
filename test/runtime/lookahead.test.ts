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

test("one more plan once two steps in a row were short", () => {
  expect(plansAfter()).toBe(2);
  expect(plansAfter(0)).toBe(2);
  expect(plansAfter(0, 1)).toBe(2);
  expect(plansAfter(0, 1, 2)).toBe(3);
  expect(plansAfter(0, 1, 2, 3.4)).toBe(3);
});

test("a long step ends it, and one that only seems short after a late one does not bring it back", () => {
  expect(plansAfter(0, 1, 2, 6)).toBe(2);
  expect(plansAfter(0, 1, 2, 6, 6.1)).toBe(2);
  expect(plansAfter(0, 1, 2, 6, 6.1, 7.1)).toBe(3);
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
