import { expect, test } from "vitest";
import { UsageError } from "../../src/common/errors.ts";
import {
  forkSamplingParams,
  gpuSamplingParams,
  isGreedy,
  mayNeedWide,
  needsFilter,
  needsPenalties,
  resolveSamplingParams,
  type SamplingOptions,
} from "../../src/runtime/samplingParams.ts";

test.each<[SamplingOptions, string]>([
  [{ temperature: -0.1 }, "temperature: expected a finite number of at least 0, got -0.1; use 0"],
  [{ temperature: Number.NaN }, "temperature"],
  [{ temperature: Number.POSITIVE_INFINITY }, "temperature"],
  [
    { topK: -2 },
    "topK: expected a whole number of at least 1, or 0 or -1 to keep all tokens, got -2",
  ],
  [{ topK: 1.5 }, "topK"],
  [{ topP: 0 }, "topP: expected above 0, at most 1, got 0; use 1 to keep all tokens"],
  [{ topP: 1.01 }, "topP"],
  [{ minP: -0.5 }, "minP: expected 0 to 1, got -0.5"],
  [{ minP: 2 }, "minP"],
  [{ repetitionPenalty: 0 }, "repetitionPenalty: expected a finite number above 0, got 0"],
  [{ presencePenalty: 2.5 }, "presencePenalty: expected -2 to 2, got 2.5"],
  [{ frequencyPenalty: -3 }, "frequencyPenalty: expected -2 to 2, got -3"],
  [{ seed: 2 ** 32 }, "seed: expected a whole number from 0 to 4294967295, or -1 for a random one"],
  [{ seed: 1.5 }, "seed"],
  [{ maxTokens: 0 }, "maxTokens: expected a whole number of at least 1, got 0; leave it out"],
  [{ minTokens: -1 }, "minTokens: expected a whole number from 0 to maxTokens, got -1"],
  [
    { minTokens: 5, maxTokens: 4 },
    "minTokens: expected a whole number from 0 to maxTokens (4), got 5",
  ],
  [{ stop: ["a", ""] }, "stop: expected strings of at least 1 letter"],
  [{ logprobs: 21 }, "logprobs: expected a whole number from 0 to 20, got 21"],
  [{ promptLogprobs: 0.5 }, "promptLogprobs: expected a whole number from 0 to 20, got 0.5"],
  [{ logitBias: { 3: 101 } }, "logitBias of token 3: expected a bias from -100 to 100, got 101"],
  [{ logitBias: { 3: Number.NaN } }, "logitBias of token 3"],
  [{ logitBias: { [-3]: 1 } }, "logitBias: expected token ids of at least 0, got -3"],
  [
    { logitBias: Object.fromEntries(Array.from({ length: 1025 }, (_, id) => [id, 1])) },
    "logitBias: expected at most 1024 tokens, got 1025",
  ],
  [{ stopTokenIds: [3, -1] }, "stopTokenIds: expected token ids of at least 0, got -1"],
])("%o is refused", (options, message) => {
  expect(() => resolveSamplingParams(options)).toThrow(UsageError);
  expect(() => resolveSamplingParams(options)).toThrow(message);
});

test("defaults are vLLM's, the edges of ranges are in, and a drawn seed is recorded", () => {
  const { seed, ...defaults } = resolveSamplingParams();
  expect(defaults).toEqual({
    temperature: 1,
    topK: 0,
    topP: 1,
    minP: 0,
    repetitionPenalty: 1,
    presencePenalty: 0,
    frequencyPenalty: 0,
    maxTokens: null,
    minTokens: 0,
    ignoreEos: false,
    stopTokenIds: [],
    stop: [],
    includeStopStrInOutput: false,
    logprobs: null,
    promptLogprobs: null,
    logitBias: {},
  });
  expect(resolveSamplingParams({ seed }).seed).toBe(seed);
  const seeds = Array.from({ length: 8 }, () => resolveSamplingParams({ seed: -1 }).seed);
  expect(new Set(seeds).size).toBeGreaterThan(1);
  const edges = { topK: -1, minP: 1, presencePenalty: -2, frequencyPenalty: 2, seed: 2 ** 32 - 1 };
  expect(resolveSamplingParams(edges)).toMatchObject({ ...edges, topK: 0 });
});

test("choices of a fork differ in their seeds only, which wrap around", () => {
  const params = resolveSamplingParams({ seed: 2 ** 32 - 2, topK: 5 });
  const forks = [0, 1, 2].map((index) => forkSamplingParams(params, index));
  expect(forks.map(({ seed }) => seed)).toEqual([2 ** 32 - 2, 2 ** 32 - 1, 0]);
  for (const fork of forks) expect({ ...fork, seed: params.seed }).toEqual(params);
});

// [options, greedy, filter, penalties, wide]
test.each<[SamplingOptions, boolean, boolean, boolean, boolean]>([
  [{}, false, false, false, false],
  [{ temperature: 0 }, true, false, false, false],
  [{ temperature: 0, topK: 100, topP: 0.5 }, true, false, false, false],
  [{ temperature: 0, repetitionPenalty: 1.1 }, true, false, true, false],
  [{ topK: 64 }, false, true, false, false],
  [{ topK: 65 }, false, true, false, true],
  [{ topP: 0.9 }, false, true, false, true],
  [{ minP: 0.1 }, false, true, false, true],
  [{ topK: 40, topP: 0.9, minP: 0.1 }, false, true, false, false],
  [{ presencePenalty: -1 }, false, false, true, false],
  [{ frequencyPenalty: 0.5 }, false, false, true, false],
])("%o is classified", (options, greedy, filter, penalties, wide) => {
  const params = gpuSamplingParams(resolveSamplingParams(options));
  const got = [isGreedy, needsFilter, needsPenalties, mayNeedWide].map((f) => f(params));
  expect(got).toEqual([greedy, filter, penalties, wide]);
});
