import { expect, test } from "vitest";
import { PromptError, UsageError } from "../../src/common/errors.ts";
import type { ExecutorLimits } from "../../src/runtime/executor/executor.ts";
import { createRequest, type Request } from "../../src/runtime/request.ts";
import { resolveSamplingParams, type SamplingOptions } from "../../src/runtime/samplingParams.ts";

const limits: ExecutorLimits = {
  maxNumSeqs: 2,
  maxNumBatchedTokens: 8,
  blockSize: 16,
  numBlocks: 100,
  maxModelLen: 64,
  vocabSize: 10,
  maxInFlight: 1,
};

function draft(
  promptTokenIds: readonly number[],
  options: SamplingOptions = {},
  overrides: Partial<ExecutorLimits> = {},
): Request {
  const sampling = resolveSamplingParams(options);
  const parts = { requestId: "r", promptTokenIds, sampling, eosTokenIds: [9] };
  return createRequest(parts, { ...limits, ...overrides });
}

const tokens = (length: number): number[] => Array.from({ length }, () => 1);
const smallCache = { numBlocks: 2 };

test.each<[string, () => unknown, string]>([
  ["an empty prompt", () => draft([]), "prompt: expected at least 1 token, got 0; start from"],
  [
    "an id outside the vocabulary",
    () => draft([1, 10]),
    "prompt token 1: expected an id from 0 to 9 (vocabSize 10), got 10",
  ],
  ["a negative id", () => draft([-1]), "prompt token 0: expected an id from 0 to 9"],
  ["half an id", () => draft([0.5]), "got 0.5"],
  [
    "a prompt that fills the context",
    () => draft(tokens(64)),
    "prompt: expected at most 63 tokens (maxModelLen 64, less 1 to generate), got 64; shorten",
  ],
  [
    "more tokens than the context holds",
    () => draft(tokens(60), { maxTokens: 5 }),
    "prompt + maxTokens: expected at most 64 tokens (maxModelLen), got 60 + 5 = 65; use a maxTokens of at most 4",
  ],
  [
    "a prompt beyond the KV cache",
    () => draft(tokens(33), {}, smallCache),
    "prompt: expected at most 32 tokens (KV cache: 2 blocks x 16 tokens), got 33 tokens = 3 blocks",
  ],
  [
    "a completion beyond the KV cache",
    () => draft(tokens(30), { maxTokens: 4 }, smallCache),
    "got 30 + 4 - 1 = 33 tokens = 3 blocks; use a maxTokens of at most 3",
  ],
])("%s is refused", (_, create, message) => {
  expect(create).toThrow(PromptError);
  expect(create).toThrow(message);
});

test("maxTokens left out is what context and cache leave", () => {
  expect(draft(tokens(60)).maxTokens).toBe(4);
  expect(draft(tokens(63)).maxTokens).toBe(1);
  expect(draft(tokens(30), {}, smallCache).maxTokens).toBe(3);
  expect(draft(tokens(60), { maxTokens: 4 }).maxTokens).toBe(4);
});

test("ignoreEos keeps the request's own stop tokens", () => {
  expect([...draft([1], { stopTokenIds: [3] }).stopTokenIds]).toEqual([9, 3]);
  expect([...draft([1], { stopTokenIds: [3], ignoreEos: true }).stopTokenIds]).toEqual([3]);
});

test("what cannot reach the GPU is refused or left out", () => {
  expect(() => draft([1], { logitBias: { 10: 1 } })).toThrow(UsageError);
  expect(() => draft([1], { logitBias: { 10: 1 } })).toThrow("logitBias: expected ids from 0 to 9");
  expect([...draft([1], { stopTokenIds: [10, 3] }).stopTokenIds]).toEqual([9, 3]);
  const sampling = resolveSamplingParams();
  const parts = { requestId: "r", promptTokenIds: [1], sampling, eosTokenIds: [] };
  expect(createRequest(parts, limits)).toMatchObject({ priority: 0, leaderId: null });
  expect(() => createRequest({ ...parts, priority: 0.5 }, limits)).toThrow("priority");
});
