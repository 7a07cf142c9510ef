import fc from "fast-check";
import { expect, test } from "vitest";
import type { ExecutorLimits } from "../../src/runtime/executor/executor.ts";
import type { SchedulerOptions } from "../../src/runtime/schedulerLimits.ts";
import { Harness } from "../support/schedulerHarness.ts";
import { expectedOf, requestOf, vocabSize } from "../support/workload.ts";

const limits: ExecutorLimits = {
  maxNumSeqs: 2,
  maxNumBatchedTokens: 16,
  blockSize: 4,
  numBlocks: 64,
  maxModelLen: 64,
  vocabSize,
  maxInFlight: 2,
};

interface Arrival {
  readonly priority: number;
  readonly maxTokens: number;
}

/** A harness that knows who waits, and notes who was admitted past whom. */
class Queue {
  readonly harness: Harness;
  readonly admitted: number[] = [];
  readonly numOvertakes: number[] = [];
  readonly #arrivals: Arrival[] = [];
  readonly #maxOvertakes: number;

  constructor(options: SchedulerOptions, overrides: Partial<ExecutorLimits> = {}) {
    this.harness = new Harness({ ...limits, ...overrides }, options);
    this.#maxOvertakes = options.maxOvertakes ?? 64;
  }

  add(arrival: Arrival): void {
    const index = this.#arrivals.length;
    this.#arrivals.push(arrival);
    this.numOvertakes.push(0);
    const shape = { prompt: [1, 2, index % vocabSize], seed: index, ignoreEos: true, ...arrival };
    this.harness.add(requestOf(shape, index, this.harness.scheduler.limits));
  }

  schedule(): boolean {
    const isPlanned = this.harness.schedule();
    for (const event of this.harness.scheduler.takeEvents())
      this.#admit(Number(event.requestId.slice(1)));
    return isPlanned;
  }

  runToEnd(): void {
    while (this.harness.scheduler.hasWork) if (!this.schedule()) this.harness.takeOutput();
  }

  #admit(index: number): void {
    this.admitted.push(index);
    const isOverdue = (i: number): boolean => (this.numOvertakes[i] ?? 0) >= this.#maxOvertakes;
    for (const [other, { priority }] of this.#arrivals.entries()) {
      if (this.admitted.includes(other)) continue;
      if (!isOverdue(index)) {
        expect(isOverdue(other), "one that is overdue was passed").toBe(false);
        expect(priority, "a more urgent one was passed").toBeGreaterThanOrEqual(
          this.#arrivals[index]?.priority ?? 0,
        );
      }
      if (other < index) this.numOvertakes[other] = (this.numOvertakes[other] ?? 0) + 1;
    }
  }
}

test("the most urgent is admitted first, and none is passed more often than allowed", () => {
  const arrivals = fc.array(
    fc.record({
      priority: fc.integer({ min: -1, max: 2 }),
      maxTokens: fc.integer({ min: 1, max: 4 }),
      numSteps: fc.nat(3),
    }),
    { minLength: 5, maxLength: 40, size: "max" },
  );
  let mostOvertakes = 0;
  const holds = fc.property(arrivals, fc.integer({ min: 1, max: 6 }), (all, maxOvertakes) => {
    const queue = new Queue({ maxOvertakes });
    for (const { numSteps, ...arrival } of all) {
      queue.add(arrival);
      for (let i = 0; i < numSteps; i++) if (!queue.schedule()) queue.harness.takeOutput();
    }
    queue.runToEnd();
    expect([...queue.admitted].sort((a, b) => a - b)).toEqual(all.map((_, index) => index));
    expect(Math.max(...queue.numOvertakes)).toBeLessThanOrEqual(maxOvertakes);
    mostOvertakes = Math.max(mostOvertakes, ...queue.numOvertakes);
  });
  fc.assert(holds, { numRuns: 60 });
  expect(mostOvertakes).toBe(6);
});

test("lower goes first, and of equals the first that came", () => {
  const queue = new Queue({}, { maxNumSeqs: 1 });
  for (const priority of [0, 1, -1, 1, 0]) queue.add({ priority, maxTokens: 2 });
  queue.runToEnd();
  expect(queue.admitted).toEqual([2, 0, 4, 1, 3]);
});

test("an endless stream of urgent requests starves nobody", () => {
  const queue = new Queue({ maxOvertakes: 10 }, { maxNumSeqs: 1 });
  queue.add({ priority: 0, maxTokens: 3 });
  queue.schedule();
  queue.add({ priority: 5, maxTokens: 1 });
  for (let i = 0; i < 30; i++) {
    queue.add({ priority: 0, maxTokens: 1 });
    while (queue.schedule());
    queue.harness.takeOutput();
  }
  expect(queue.admitted.indexOf(1)).toBe(11); // after the first, and ten that passed it
});

test("the least urgent is preempted, though it came first", () => {
  // Two sequences of 3 + 20 tokens need 6 blocks each; 7 leave room for one and a bit.
  const harness = new Harness({ ...limits, numBlocks: 7 });
  const shape = { prompt: [1, 2, 3], maxTokens: 20, ignoreEos: true };
  const late = requestOf({ ...shape, seed: 0, priority: 1 }, 0, limits);
  const urgent = requestOf({ ...shape, seed: 1, priority: 0 }, 1, limits);
  harness.add(late);
  harness.schedule();
  harness.add(urgent);
  harness.runToEnd();
  expect(harness.scheduler.stats.numPreemptions).toBeGreaterThan(0);
  expect([...harness.finished]).toEqual(["r1", "r0"]);
  for (const request of [late, urgent]) {
    expect(harness.completions.get(request.requestId)).toEqual(expectedOf(request, limits));
  }
});

test("a long prompt shares steps with short ones, within the limit on partial prefills", () => {
  const options = { maxNumPartialPrefills: 2 };
  const harness = new Harness({ ...limits, maxNumSeqs: 4 }, options);
  const long = Array.from({ length: 40 }, () => 3);
  const shapes = [long, long, long, [1, 2]].map((prompt, seed) => ({ prompt, seed, maxTokens: 1 }));
  for (const [i, shape] of shapes.entries()) harness.add(requestOf(shape, i, limits));
  const numRunning: number[] = [];
  const finishedAt = new Map<string, number>();
  for (let step = 0; harness.scheduler.hasWork; step++) {
    harness.schedule();
    numRunning.push(harness.scheduler.stats.numRunning);
    harness.takeOutput();
    for (const id of harness.finished) if (!finishedAt.has(id)) finishedAt.set(id, step);
  }
  expect(numRunning.slice(0, 4)).toEqual([2, 2, 2, 2]); // 8 tokens a step each, the third waits
  expect(finishedAt.get("r0")).toBe(4);
  expect(finishedAt.get("r1")).toBe(4);
});
