/** Random limits, options and requests for schedulers, and what each request must give. */
import fc from "fast-check";
import { expect } from "vitest";
import type { ExecutorLimits } from "../../src/runtime/executor/executor.ts";
import { type AllowedTokens, createRequest, type Request } from "../../src/runtime/request.ts";
import { resolveSamplingParams, type SamplingOptions } from "../../src/runtime/samplingParams.ts";
import type { SchedulerOptions } from "../../src/runtime/schedulerLimits.ts";
import { tokenMaskOf } from "../../src/runtime/tokenMask.ts";
import { Harness } from "./schedulerHarness.ts";
import { at, expectedCompletion } from "./simulatedModel.ts";

export const vocabSize = 23;

export interface RequestShape extends SamplingOptions {
  readonly prompt: readonly number[];
  readonly maxTokens: number;
  readonly seed: number;
  readonly priority?: number;
  readonly leaderId?: string;
  readonly isConstrained?: boolean;
}

export interface Workload {
  readonly limits: ExecutorLimits;
  readonly options: SchedulerOptions;
  readonly requests: readonly Request[];
}

// Few beginnings, so that prefixes are shared.
const prompts: fc.Arbitrary<number[]> = fc
  .record({
    head: fc.constantFrom(
      [],
      Array.from({ length: 9 }, () => 1),
      [1, 1, 1, 1, 2, 3, 4, 5, 6, 7],
    ),
    tail: fc.array(fc.nat(vocabSize - 1), { minLength: 1, maxLength: 20 }),
  })
  .map(({ head, tail }) => [...head, ...tail]);

const shapes: fc.Arbitrary<RequestShape> = fc.record({
  prompt: prompts,
  maxTokens: fc.integer({ min: 1, max: 25 }),
  seed: fc.nat(999),
  ignoreEos: fc.boolean(),
  presencePenalty: fc.constantFrom(0, 0, 1),
});

/** Adds everything that a request may ask for; the second and third of a fork follow the first. */
const richShapes: fc.Arbitrary<RequestShape[]> = fc
  .record({
    base: shapes,
    minTokens: fc.nat(3),
    logprobs: fc.constantFrom(null, null, 0, 2),
    promptLogprobs: fc.constantFrom(null, null, null, 1),
    logitBias: fc.constantFrom({}, {}, { 3: 1.5, 20: -2 }),
    priority: fc.constantFrom(0, 0, 1, -1),
    isConstrained: fc.constantFrom(false, false, true),
    n: fc.constantFrom(1, 1, 3),
  })
  .map(({ base, n, minTokens, ...rest }) =>
    Array.from({ length: n }, () => ({
      ...base,
      ...rest,
      minTokens: Math.min(minTokens, base.maxTokens),
    })),
  );

interface Sizes {
  readonly blockSize: number;
  readonly maxNumSeqs: number;
  readonly numSpareTokens: number;
  readonly numSpareBlocks: number;
  readonly maxInFlight: number;
  readonly ppSize: number;
  readonly burstSteps: number;
}

const sizes: fc.Arbitrary<Sizes> = fc.record({
  blockSize: fc.constantFrom(1, 2, 4, 16),
  maxNumSeqs: fc.integer({ min: 1, max: 6 }),
  numSpareTokens: fc.nat(60),
  numSpareBlocks: fc.nat(4),
  maxInFlight: fc.integer({ min: 1, max: 4 }),
  ppSize: fc.constantFrom(1, 1, 2, 3),
  burstSteps: fc.integer({ min: 2, max: 4 }),
});

const options: fc.Arbitrary<SchedulerOptions> = fc.record({
  enablePrefixCaching: fc.boolean(),
  maxNumPartialPrefills: fc.integer({ min: 1, max: 3 }),
  maxOvertakes: fc.integer({ min: 1, max: 4 }),
});

// Few spare blocks, so that preemptions are common; every request fits alone.
function limitsFor(all: readonly RequestShape[], size: Sizes): ExecutorLimits {
  const { numSpareTokens, numSpareBlocks, ...rest } = size;
  const maxInFlight = Math.max(size.maxInFlight, size.ppSize); // a plan for each stage
  const longest = Math.max(...all.map((s) => s.prompt.length + s.maxTokens));
  return {
    ...rest,
    maxInFlight,
    maxNumBatchedTokens: size.maxNumSeqs + numSpareTokens,
    numBlocks: Math.ceil(longest / size.blockSize) + numSpareBlocks,
    maxModelLen: longest,
    vocabSize,
  };
}

// Every third token may follow, from one that the completion so far decides.
const constrained: AllowedTokens = (completion) => {
  const first = completion.reduce((sum, id) => sum + id, completion.length) % 3;
  const ids = Array.from({ length: 7 }, (_, i) => first + 3 * i);
  return completion.length % 4 === 3 ? null : tokenMaskOf(ids, vocabSize);
};

export function requestOf(shape: RequestShape, index: number, limits: ExecutorLimits): Request {
  const { prompt, priority = 0, leaderId, isConstrained, ...options } = shape;
  const sampling = resolveSamplingParams(options);
  const draft = { requestId: `r${index}`, promptTokenIds: prompt, sampling, eosTokenIds: [0] };
  const leader = leaderId === undefined ? {} : { leaderId };
  const mask = isConstrained === true ? { allowedTokens: constrained } : {};
  return createRequest({ ...draft, priority, ...leader, ...mask }, limits);
}

/** All of one priority. */
export const plainWorkloads: fc.Arbitrary<Workload> = fc
  .record({ all: fc.array(shapes, { minLength: 1, maxLength: 8 }), size: sizes, options })
  .map(({ all, size, options }) => {
    const limits = limitsFor(all, size);
    const requests = all.map((shape, index) =>
      requestOf({ ...shape, seed: index * 1000 + shape.seed }, index, limits),
    );
    return { limits, options, requests };
  });

export const richWorkloads: fc.Arbitrary<Workload> = fc
  .record({ forks: fc.array(richShapes, { minLength: 1, maxLength: 5 }), size: sizes, options })
  .map(({ forks, size, options }) => {
    const limits = limitsFor(forks.flat(), size);
    const requests: Request[] = [];
    for (const fork of forks) {
      const leaderId = `r${requests.length}`;
      for (const [i, shape] of fork.entries()) {
        const seed = requests.length * 1000 + shape.seed;
        const named = i === 0 ? { ...shape, seed } : { ...shape, seed, leaderId };
        requests.push(requestOf(named, requests.length, limits));
      }
    }
    return { limits, options, requests };
  });

export function expectedOf(request: Request, limits: ExecutorLimits): number[] {
  return expectedCompletion(request.promptTokenIds, request.sampling, request, limits);
}

export type Action = "add" | "schedule" | "burst" | "takeOutput" | "abort";

/** Follows the script, then runs to the end; every request must have given its own tokens. */
export function play({ limits, options, requests }: Workload, script: readonly Action[]): Harness {
  const harness = new Harness(limits, options);
  const coming = [...requests];
  const add = (): void => {
    const next = coming.shift();
    if (next !== undefined) harness.add(next);
  };
  const aborted = new Set<string>();
  for (const [index, action] of script.entries()) {
    if (action === "add") add();
    else if (action === "schedule") harness.schedule();
    else if (action === "burst") harness.burst();
    else if (action === "takeOutput") harness.takeOutput();
    else {
      const { requestId } = at(requests, index % requests.length);
      if (harness.abort(requestId)) aborted.add(requestId);
    }
    harness.checkBlocks();
  }
  while (coming.length > 0) add();
  harness.runToEnd();
  for (const request of requests) {
    const expected = expectedOf(request, limits);
    const got = harness.completions.get(request.requestId) ?? [];
    if (aborted.has(request.requestId)) expect(expected.slice(0, got.length)).toEqual(got);
    else expect(got).toEqual(expected);
  }
  return harness;
}
