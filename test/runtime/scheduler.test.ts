import { expect, test } from "vitest";
import type { ExecutorLimits } from "../../src/runtime/executor/executor.ts";
import type { Request } from "../../src/runtime/request.ts";
import { Scheduler } from "../../src/runtime/scheduler.ts";
import { Harness } from "../support/schedulerHarness.ts";
import { expectedOf, requestOf, type RequestShape, vocabSize } from "../support/workload.ts";

const roomy: ExecutorLimits = {
  maxNumSeqs: 4,
  maxNumBatchedTokens: 16,
  blockSize: 4,
  numBlocks: 64,
  maxModelLen: 64,
  vocabSize,
  maxInFlight: 3,
};

function roomyRequest(index: number, options: Partial<RequestShape> = {}): Request {
  const shape = { prompt: [1, 2, 3], maxTokens: 20, seed: index, ignoreEos: true, ...options };
  return requestOf(shape, index, roomy);
}

test("a stop found late drops the tokens planned after it", () => {
  const harness = new Harness(roomy);
  const seed = Array.from({ length: 1000 }, (_, i) => i).find((candidate) => {
    const { length } = expectedOf(roomyRequest(candidate, { ignoreEos: false }), roomy);
    return length > 2 && length < 10;
  });
  const request = roomyRequest(seed ?? 0, { ignoreEos: false });
  const expected = expectedOf(request, roomy);
  harness.add(request);
  while (!harness.finished.has(request.requestId)) {
    while (harness.schedule());
    harness.takeOutput();
  }
  expect(harness.completions.get(request.requestId)).toEqual(expected);
  const { numPlansInFlight, numDraining, numUsedBlocks } = harness.scheduler.stats;
  expect([numPlansInFlight, numDraining]).toEqual([2, 1]);
  expect(numUsedBlocks).toBeGreaterThan(0); // still read by the two surplus plans
  expect(harness.schedule()).toBe(false);
  harness.runToEnd();
  expect(harness.completions.get(request.requestId)).toEqual(expected);
});

test("a length that is known ahead plans no surplus token", () => {
  const harness = new Harness(roomy);
  harness.add(roomyRequest(0, { maxTokens: 2 }));
  expect([harness.schedule(), harness.schedule(), harness.schedule()]).toEqual([true, true, false]);
  harness.runToEnd();
});

test("decodes come first and a long prompt fills what the budget leaves", () => {
  const scheduler = new Scheduler({ ...roomy, maxInFlight: 9 });
  scheduler.add(roomyRequest(0));
  scheduler.schedule();
  scheduler.add(roomyRequest(1, { prompt: Array.from({ length: 20 }, () => 5) }));
  scheduler.add(roomyRequest(2, { prompt: [7] }));
  const shapes = [scheduler.schedule(), scheduler.schedule(), scheduler.schedule()].map((plan) =>
    plan?.sequences.map(({ slot, startPosition, numTokens, tokenIds, samples }) =>
      [slot, startPosition, numTokens, tokenIds === null ? "decode" : "prefill", samples].join(" "),
    ),
  );
  expect(shapes).toEqual([
    ["0 3 1 decode true", "1 0 15 prefill false"],
    ["0 4 1 decode true", "2 0 1 prefill true", "1 15 5 prefill true"],
    ["0 5 1 decode true", "1 20 1 decode true", "2 1 1 decode true"],
  ]);
});

test("the youngest is preempted, waits for its plans, and starts again with all its tokens", () => {
  // Two sequences of 3 + 20 tokens need 6 blocks each; 7 leave room for one and a bit.
  const harness = new Harness({ ...roomy, numBlocks: 7, maxInFlight: 2 });
  const requests = [roomyRequest(0), roomyRequest(1)];
  for (const request of requests) harness.add(request);
  while (harness.scheduler.stats.numPreemptions === 0) {
    while (harness.schedule());
    harness.takeOutput();
  }
  expect(harness.scheduler.stats).toMatchObject({ numRunning: 1 });
  harness.runToEnd();
  expect([...harness.finished]).toEqual(["r0", "r1"]);
  for (const request of requests) {
    expect(harness.completions.get(request.requestId)).toEqual(expectedOf(request, roomy));
  }
});

test("no more is preempted than needed: blocks on their way back are waited for", () => {
  // Three sequences want their third block at once; 7 blocks hold 2 + 2 + 3.
  const harness = new Harness({ ...roomy, numBlocks: 7, maxInFlight: 2 });
  for (let index = 0; index < 3; index++) harness.add(roomyRequest(index));
  while (harness.scheduler.stats.numPreemptions === 0) {
    if (!harness.schedule()) harness.takeOutput();
  }
  const { numPreemptions, numRunning, numDraining } = harness.scheduler.stats;
  expect([numPreemptions, numRunning, numDraining]).toEqual([1, 2, 1]);
  harness.runToEnd();
});

test("admission leaves a block for each running sequence", () => {
  const scheduler = new Scheduler({ ...roomy, numBlocks: 7, maxInFlight: 9 });
  scheduler.add(roomyRequest(0, { prompt: [1, 2, 3, 4] }));
  scheduler.schedule();
  scheduler.add(roomyRequest(1, { prompt: Array.from({ length: 20 }, () => 1), maxTokens: 3 }));
  scheduler.schedule(); // 1 block used, 5 wanted: fits with the one for r0's next token
  expect(scheduler.stats).toMatchObject({ numRunning: 1, numUsedBlocks: 2 });
  scheduler.schedule();
  expect(scheduler.stats.numRunning).toBe(1);
});

test("an output that does not belong to the oldest plan is refused", () => {
  const scheduler = new Scheduler(roomy);
  expect(() => scheduler.postprocess({ stepIndex: 0, tokenIds: [] })).toThrow(
    "no plan is in flight",
  );
  scheduler.add(roomyRequest(0));
  scheduler.schedule();
  expect(() => scheduler.postprocess({ stepIndex: 1, tokenIds: [1] })).toThrow(
    "expected step 0 with 1 tokens, got step 1 with 1",
  );
  expect(() => scheduler.postprocess({ stepIndex: 0, tokenIds: [1, 2] })).toThrow(
    "got step 0 with 2",
  );
  expect(() => scheduler.postprocess({ stepIndex: 0, tokenIds: [23] })).toThrow(
    "from 0 to 22, got 23",
  );
});

test("limits that cannot work are named", () => {
  expect(() => new Scheduler({ ...roomy, numBlocks: 0 })).toThrow(
    "numBlocks: expected a whole number of at least 1, got 0",
  );
  expect(() => new Scheduler({ ...roomy, maxNumBatchedTokens: 3 })).toThrow(
    "maxNumBatchedTokens: expected at least maxNumSeqs (4)",
  );
});
