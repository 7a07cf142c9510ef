import fc from "fast-check";
import { expect, test } from "vitest";
import { benchServe } from "../../src/server/bench/benchServe.ts";
import type { BenchSample } from "../../src/server/bench/client.ts";
import { plotLatency } from "../../src/server/bench/plot.ts";
import { summarise } from "../../src/server/bench/summary.ts";
import {
  arrivalTimesMs,
  datasetRequests,
  randomRequests,
} from "../../src/server/bench/workload.ts";
import { startSimulated } from "./support/simulatedServer.ts";

const lengths = {
  numPrompts: 6,
  inputLength: 20,
  outputLength: 8,
  prefixLength: 12,
  vocabSize: 50,
};

test("random prompts: the same for a seed, with the shared prefix and known ids", () => {
  const requests = randomRequests({ ...lengths, seed: 3 });
  expect(randomRequests({ ...lengths, seed: 3 })).toEqual(requests);
  const prompts = requests.map(({ prompt }) => prompt as number[]);
  expect(new Set(prompts.map((prompt) => prompt.slice(0, 12).join())).size).toBe(1);
  expect(new Set(prompts.map((prompt) => prompt.join())).size).toBe(6);
  expect(prompts.flat().every((id) => Number.isInteger(id) && id >= 0 && id < 50)).toBe(true);
});

test("arrivals are a Poisson process: mean and variance of the gaps fit the rate", () => {
  const holds = fc.property(fc.integer({ min: 0, max: 1000 }), (seed) => {
    const times = arrivalTimesMs(4001, 20, seed);
    const gaps = times.slice(1).map((time, index) => time - (times[index] ?? 0));
    const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
    const variance = gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length;
    expect(mean).toBeGreaterThan(45);
    expect(mean).toBeLessThan(55);
    expect(Math.sqrt(variance) / mean).toBeCloseTo(1, 0);
  });
  fc.assert(holds, { numRuns: 10 });
  expect(arrivalTimesMs(3, Infinity, 0)).toEqual([0, 0, 0]);
});

test("a dataset: lines of text and of JSON, again from the begin when it is short", () => {
  const text = 'one\n{"prompt":"two","output_len":3}\n\n';
  expect(datasetRequests(text, 3, 8)).toEqual([
    { prompt: "one", outputLength: 8 },
    { prompt: "two", outputLength: 3 },
    { prompt: "one", outputLength: 8 },
  ]);
  expect(() => datasetRequests('{"text":1}', 1, 8)).toThrow("--dataset line 1");
  expect(() => datasetRequests("\n", 1, 8)).toThrow("--dataset");
});

test("figures of two requests, worked out by hand", () => {
  const base = { numPromptTokens: 10, error: null };
  const samples: BenchSample[] = [
    { ...base, sentMs: 0, tokenMs: [100, 120, 160], endMs: 170, numTokens: 3 },
    { ...base, sentMs: 50, tokenMs: [400, 1000], endMs: 2000, numTokens: 2 },
    { ...base, sentMs: 0, tokenMs: [], endMs: 5, numTokens: 0, error: "status 429" },
  ];
  const summary = summarise(samples, 4, { ttft: 200, tpot: 50 });
  expect(summary).toMatchObject({
    ...{ numCompleted: 2, numFailed: 1, firstError: "status 429", durationS: 2 },
    ...{ requestsPerS: 1, outputTokPerS: 2.5, totalTokPerS: 12.5, goodputPerS: 0.5 },
    ttftMs: { mean: 225, p50: 350, p99: 350 },
    tpotMs: { mean: 315, p50: 600 },
    itlMs: { mean: 220, p50: 40, p99: 600 },
    e2elMs: { mean: 555 },
  });
});

test("a run against a server counts every token and plots", async () => {
  const server = await startSimulated();
  const requests = randomRequests({ ...lengths, seed: 1 });
  const target = { url: server.url, model: "sim", apiKey: undefined };
  const load = { requestRates: [500, Infinity], maxConcurrency: 4, goodput: {}, seed: 1 };
  const summaries = await benchServe({ target, requests, ...load });
  for (const summary of summaries) {
    const counts = { numCompleted: 6, numOutputTokens: 48, numPromptTokens: 120 };
    expect(summary).toMatchObject({ ...counts, numFailed: 0, goodputPerS: null });
    expect(summary.ttftMs.p50).toBeGreaterThan(0);
  }
  const svg = plotLatency("sim <1>", summaries);
  expect(svg.match(/<circle/g)).toHaveLength(18);
  expect(svg).toContain("sim &lt;1>");
  expect(svg).not.toContain("NaN");
  await server.stop();
});
