import { expect, test } from "vitest";
import type { ExecutorLimits } from "../../src/runtime/executor/executor.ts";
import type { Request } from "../../src/runtime/request.ts";
import type { SchedulerOptions } from "../../src/runtime/schedulerLimits.ts";
import { Harness } from "../support/schedulerHarness.ts";
import { expectedOf, requestOf, type RequestShape, vocabSize } from "../support/workload.ts";

const limits: ExecutorLimits = {
  maxNumSeqs: 8,
  maxNumBatchedTokens: 64,
  blockSize: 4,
  numBlocks: 64,
  maxModelLen: 128,
  vocabSize,
  maxInFlight: 2,
};

/** Runs requests one after the other, or as the test likes, and looks at what they found in the cache. */
class Runner extends Harness {
  readonly numCached = new Map<string, number>();
  readonly #added: Request[] = [];

  constructor(options: SchedulerOptions = {}, overrides: Partial<ExecutorLimits> = {}) {
    super({ ...limits, ...overrides }, options);
  }

  ask(prompt: readonly number[], shape: Partial<RequestShape> = {}): string {
    const index = this.#added.length;
    const whole = { prompt, maxTokens: 4, seed: index, ignoreEos: true, ...shape };
    const request = requestOf(whole, index, this.scheduler.limits);
    this.#added.push(request);
    this.add(request);
    return request.requestId;
  }

  /** Tokens that this request found in the cache, once it has run. */
  cachedOf(prompt: readonly number[], shape: Partial<RequestShape> = {}): number | undefined {
    const requestId = this.ask(prompt, shape);
    this.finish();
    return this.numCached.get(requestId);
  }

  override schedule(): boolean {
    const isPlanned = super.schedule();
    for (const event of this.scheduler.takeEvents()) {
      if (event.kind === "admitted") this.numCached.set(event.requestId, event.numCachedTokens);
    }
    return isPlanned;
  }

  finish(): void {
    this.runToEnd();
    for (const request of this.#added) {
      expect(this.completions.get(request.requestId)).toEqual(expectedOf(request, limits));
    }
  }
}

const prompt = Array.from({ length: 14 }, (_, i) => i + 1);

test("a repeated prompt runs only what is past its full blocks, and at least one token", () => {
  const runner = new Runner();
  expect(runner.cachedOf(prompt)).toBe(0);
  expect(runner.cachedOf(prompt)).toBe(12);
  expect(runner.cachedOf(prompt.slice(0, 12))).toBe(8); // the last block would leave nothing to run
  expect(runner.cachedOf(prompt.slice(0, 3))).toBe(0);
  expect(runner.cachedOf([...prompt.slice(0, 8), 0, 0, 0, 0, 0])).toBe(8);
  expect(runner.cachedOf([22, ...prompt.slice(1)])).toBe(0); // the same blocks after another begin
  const { numPrefixQueryTokens, numPrefixHitTokens } = runner.scheduler.stats;
  expect([numPrefixQueryTokens, numPrefixHitTokens]).toEqual([14 + 14 + 12 + 3 + 13 + 14, 28]);
});

test("the next turn of a chat finds the completion too", () => {
  const runner = new Runner();
  const first = runner.ask(prompt, { maxTokens: 11 });
  runner.finish();
  const chat = [...prompt, ...(runner.completions.get(first) ?? []), 5, 6, 7];
  // 14 + 11 tokens, of which the last was sampled but never run
  expect(runner.cachedOf(chat)).toBe(24);
});

test("without caching, and for the log-probabilities of a prompt, all of it runs", () => {
  const runner = new Runner({ enablePrefixCaching: false });
  expect([runner.cachedOf(prompt), runner.cachedOf(prompt)]).toEqual([0, 0]);
  expect(runner.scheduler.stats).toMatchObject({ numCachedBlocks: 0, numPrefixQueryTokens: 0 });
  const other = new Runner();
  expect(other.cachedOf(prompt)).toBe(0);
  expect(other.cachedOf(prompt, { promptLogprobs: 1 })).toBe(0);
  expect(other.cachedOf(prompt, { logprobs: 1 })).toBe(12);
});

test("penalties count what the cache holds", () => {
  const runner = new Runner();
  runner.cachedOf(prompt);
  expect(runner.cachedOf(prompt, { frequencyPenalty: 0.5, maxTokens: 9 })).toBe(12);
});

test.each([true, false])("a fork shares its prompt's full blocks (prefix caching: %s)", (isOn) => {
  const runner = new Runner({ enablePrefixCaching: isOn });
  const leaderId = runner.ask(prompt, { maxTokens: 20 });
  const others = [1, 2, 3].map(() => runner.ask(prompt, { maxTokens: 20, leaderId }));
  expect(runner.schedule()).toBe(true);
  expect(runner.scheduler.stats).toMatchObject({ numRunning: 1, numWaiting: 3 });
  runner.schedule();
  // 3 full blocks are one's and all's; each has a fourth of its own
  expect(runner.scheduler.stats).toMatchObject({ numRunning: 4, numUsedBlocks: 3 + 4 });
  runner.finish();
  expect(others.map((id) => runner.numCached.get(id))).toEqual([12, 12, 12]);
});

test("a fork whose first choice is aborted in its prefill goes on without it", () => {
  const runner = new Runner({}, { maxNumBatchedTokens: 8 });
  const leaderId = runner.ask(prompt);
  const second = runner.ask(prompt, { leaderId });
  runner.schedule();
  runner.abort(leaderId);
  runner.runToEnd();
  expect(runner.finished.has(second)).toBe(true);
});

test("others do not wait for a fork's prompt", () => {
  const runner = new Runner({}, { maxNumBatchedTokens: 16 });
  const leaderId = runner.ask(prompt);
  runner.ask(prompt, { leaderId });
  runner.ask([9]);
  runner.schedule();
  expect(runner.scheduler.stats).toMatchObject({ numRunning: 2, numWaiting: 1 });
  runner.finish();
});

test("a preempted sequence finds its own blocks again", () => {
  // Two sequences of 3 + 20 tokens need 6 blocks each.
  const runner = new Runner({}, { numBlocks: 9 });
  for (let i = 0; i < 2; i++) runner.ask([1, 2, i], { maxTokens: 20 });
  runner.finish();
  expect(runner.scheduler.stats.numPreemptions).toBeGreaterThan(0);
  expect(runner.checker.seen.hits).toBeGreaterThan(0);
});

test("a prompt preempted half-way reports its log-probabilities once", () => {
  // The first sequence's third block is wanted while the second's prompt still runs, 2 tokens a step.
  const sizes = { numBlocks: 7, maxNumSeqs: 2, maxNumBatchedTokens: 3, maxInFlight: 1 };
  const runner = new Runner({}, sizes);
  runner.ask([1, 2, 3], { maxTokens: 20 });
  runner.schedule();
  runner.takeOutput();
  runner.ask(
    Array.from({ length: 17 }, (_, i) => i),
    { promptLogprobs: 2 },
  );
  runner.finish();
  expect(runner.scheduler.stats.numPreemptions).toBe(1);
});

test("a cache that was written to by others is forgotten", () => {
  const runner = new Runner();
  runner.cachedOf(prompt);
  expect(runner.scheduler.stats.numCachedBlocks).toBeGreaterThan(0);
  runner.scheduler.resetPrefixCache();
  expect(runner.scheduler.stats.numCachedBlocks).toBe(0);
  expect(runner.cachedOf(prompt)).toBe(0);
});
