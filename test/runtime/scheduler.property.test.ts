import fc from "fast-check";
import { expect, test } from "vitest";
import { type Action, play, plainWorkloads, richWorkloads } from "../support/workload.ts";

function script(kinds: readonly Action[], maxLength: number): fc.Arbitrary<Action[]> {
  return fc.array(fc.constantFrom(...kinds), { maxLength, size: "max" });
}

test("whatever it is batched with, a request gives its own tokens, first come first served", () => {
  const seen = {
    preemptions: 0,
    mixedSteps: 0,
    chunks: 0,
    aheadDecodes: 0,
    maxInFlight: 0,
    hits: 0,
    bursts: 0,
  };
  const actions = script(["add", "schedule", "schedule", "burst", "takeOutput"], 80);
  const holds = fc.property(plainWorkloads, actions, (workload, steps) => {
    const { checker, scheduler } = play(workload, steps);
    seen.preemptions += scheduler.stats.numPreemptions;
    seen.mixedSteps += checker.seen.mixedSteps;
    seen.chunks += checker.seen.chunks;
    seen.aheadDecodes += checker.seen.aheadDecodes;
    seen.hits += checker.seen.hits;
    seen.bursts += checker.seen.bursts;
    seen.maxInFlight = Math.max(seen.maxInFlight, checker.seen.maxInFlight);
  });
  fc.assert(holds, { numRuns: 150 });
  // The property would hold for a scheduler that runs one request after another: it did not.
  expect(seen.preemptions).toBeGreaterThan(20);
  expect(seen.mixedSteps).toBeGreaterThan(100);
  expect(seen.chunks).toBeGreaterThan(50);
  expect(seen.aheadDecodes).toBeGreaterThan(100);
  expect(seen.hits).toBeGreaterThan(50);
  expect(seen.maxInFlight).toBeGreaterThan(4); // a burst's plans, each counted
  expect(seen.bursts).toBeGreaterThan(50);
});

test("the same with priorities, forks, masks, bans, biases and log-probabilities", () => {
  const seen = { preemptions: 0, hits: 0, bursts: 0 };
  const actions = script(["add", "schedule", "schedule", "burst", "takeOutput"], 80);
  const holds = fc.property(richWorkloads, actions, (workload, steps) => {
    const { checker, scheduler } = play(workload, steps);
    seen.preemptions += scheduler.stats.numPreemptions;
    seen.hits += checker.seen.hits;
    seen.bursts += checker.seen.bursts;
  });
  fc.assert(holds, { numRuns: 150 });
  expect(seen.preemptions).toBeGreaterThan(20);
  expect(seen.hits).toBeGreaterThan(50);
  expect(seen.bursts).toBeGreaterThan(3);
});

test("an abort at any moment leaves the others' tokens, and no block behind", () => {
  const kinds: Action[] = ["add", "add", "schedule", "schedule", "burst", "takeOutput", "abort"];
  const holds = fc.property(richWorkloads, script(kinds, 120), (workload, steps) => {
    play(workload, steps);
  });
  fc.assert(holds, { numRuns: 150 });
});
