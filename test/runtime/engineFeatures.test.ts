import fc from "fast-check";
import { expect, test } from "vitest";
import { WorkerError } from "../../src/common/errors.ts";
import { Engine, type EngineOptions, type EngineRequest } from "../../src/runtime/engine.ts";
import type { ExecutorLimits } from "../../src/runtime/executor/executor.ts";
import type { StepOutput } from "../../src/runtime/stepPlan.ts";
import type { RequestStream } from "../../src/runtime/requestStream.ts";
import type { SamplingOptions } from "../../src/runtime/samplingParams.ts";
import { emptyTokenMask, tokenMaskOf } from "../../src/runtime/tokenMask.ts";
import { letterCodec, SimulatedExecutor } from "../support/simulatedExecutor.ts";
import { expectedCompletion, simulatedLogprobs } from "../support/simulatedModel.ts";

const limits: ExecutorLimits = {
  maxNumSeqs: 4,
  maxNumBatchedTokens: 16,
  blockSize: 4,
  numBlocks: 40,
  maxModelLen: 60,
  vocabSize: 27,
  maxInFlight: 3,
};
const prompt = [1, 2, 3, 4, 5, 6];
const soon = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function engineOf(options: EngineOptions = {}): { engine: Engine; executor: SimulatedExecutor } {
  const executor = new SimulatedExecutor(limits);
  return { executor, engine: new Engine(executor, letterCodec, options) };
}

function expectedTokens({ request }: RequestStream): number[] {
  return expectedCompletion(request.promptTokenIds, request.sampling, request, limits);
}

const letters = (ids: readonly number[]): string =>
  String.fromCharCode(...ids.map((id) => 96 + id));
const idle = { numUsedBlocks: 0, numRunning: 0, numDraining: 0, numPlansInFlight: 0 };

async function settled(engine: Engine): Promise<void> {
  while (engine.stats.numDraining > 0 || engine.stats.numPlansInFlight > 0) await soon();
  expect(engine.stats).toMatchObject(idle);
}

test("a stop string ends the request, its text cut there, and frees its blocks", async () => {
  const { engine } = engineOf();
  const seeds = fc.record({
    seed: fc.nat(9999),
    minTokens: fc.nat(12),
    includeStopStrInOutput: fc.boolean(),
    from: fc.nat(15),
  });
  let numStopped = 0;
  const holds = fc.asyncProperty(seeds, async ({ from, ...options }) => {
    const sampling = { ...options, maxTokens: 20, ignoreEos: true };
    const plain = engine.addRequest({ promptTokenIds: prompt, sampling });
    const tokens = expectedTokens(plain);
    const text = letters(tokens);
    const stop = text.slice(from, from + 2);
    const stream = engine.addRequest({
      promptTokenIds: prompt,
      sampling: { ...sampling, stop: [stop] },
    });
    const completion = await stream.collect();
    await plain.collect();
    // The decoder holds one letter back: a letter is certain with the next token, or with the last.
    const begins = Array.from(text, (_, i) => i).filter((i) => text.startsWith(stop, i));
    const numTokensFor = (begin: number): number =>
      Math.min(begin + stop.length + 1, tokens.length);
    const begin = begins.find((i) => numTokensFor(i) > options.minTokens) ?? text.length;
    const isStopped = begin < text.length;
    if (isStopped) numStopped += 1;
    const end = isStopped && options.includeStopStrInOutput ? begin + stop.length : begin;
    expect(completion).toMatchObject({
      text: text.slice(0, end),
      finishReason: isStopped ? "stop" : "length",
      stopReason: isStopped ? stop : null,
      tokenIds: tokens.slice(0, numTokensFor(begin)),
    });
  });
  await fc.assert(holds, { numRuns: 60 });
  expect(numStopped).toBeGreaterThan(20);
  await settled(engine);
});

test("a stop string ends the work too", async () => {
  const { engine, executor } = engineOf();
  const sampling = { seed: 1, maxTokens: 50, ignoreEos: true };
  const plain = expectedTokens(engine.addRequest({ promptTokenIds: prompt, sampling }));
  await engine.shutdown();
  const other = engineOf();
  const stop = [letters(plain.slice(2, 4))];
  await other.engine
    .addRequest({ promptTokenIds: prompt, sampling: { ...sampling, stop } })
    .collect();
  await settled(other.engine);
  expect(other.executor.numSteps).toBeLessThan(10);
  expect(executor.isShutDown).toBe(true);
});

test("a stop token before minTokens does not end a completion", async () => {
  const corrupt = (output: StepOutput): StepOutput => ({
    ...output,
    tokenIds: output.tokenIds.map(() => 0),
  });
  const engine = new Engine(new SimulatedExecutor(limits, { corrupt }), letterCodec);
  const sampling = { minTokens: 3, maxTokens: 9 };
  const { tokenIds } = await engine.addRequest({ promptTokenIds: prompt, sampling }).collect();
  expect(tokenIds).toEqual([0, 0, 0, 0]);
});

test("a stop token of the request's own is its stop reason, an end-of-sequence token is none", async () => {
  const { engine } = engineOf();
  const ask = async (sampling: SamplingOptions): Promise<unknown[]> => {
    const stream = engine.addRequest({ promptTokenIds: prompt, sampling });
    const { finishReason, stopReason, tokenIds, text } = await stream.collect();
    expect(tokenIds).toEqual(expectedTokens(stream));
    expect(text).toBe(letters(finishReason === "stop" ? tokenIds.slice(0, -1) : tokenIds));
    return [finishReason, stopReason];
  };
  const all = Array.from({ length: 27 }, (_, id) => id);
  const own = await ask({ seed: 1, stopTokenIds: all.slice(1), ignoreEos: true });
  expect(own).toEqual(["stop", expect.any(Number)]);
  const seeds = Array.from({ length: 12 }, (_, seed) => ask({ seed, maxTokens: 40 }));
  expect(await Promise.all(seeds)).toContainEqual(["stop", null]);
  // Only end-of-sequence is left to sample once minTokens are there.
  const minimal = engine.addRequest({
    promptTokenIds: prompt,
    sampling: { minTokens: 3, maxTokens: 9, stopTokenIds: all.slice(5), seed: 2 },
  });
  const { tokenIds } = await minimal.collect();
  expect(tokenIds.slice(0, 3).every((id) => id >= 1 && id < 5)).toBe(true);
  expect(tokenIds).toEqual(expectedTokens(minimal));
});

test("log-probabilities come with their tokens, the prompt's with the first", async () => {
  const { engine } = engineOf();
  const sampling = { seed: 3, maxTokens: 5, ignoreEos: true, logprobs: 2, promptLogprobs: 0 };
  const long = Array.from({ length: 40 }, (_, i) => (i % 26) + 1); // three chunks
  const { tokenIds, logprobs, promptLogprobs } = await engine
    .addRequest({ promptTokenIds: long, sampling })
    .collect();
  expect(logprobs).toEqual(tokenIds.map((id, i) => simulatedLogprobs(id, 40 + i, 2)));
  expect(promptLogprobs).toEqual(
    long.map((id, p) => (p === 0 ? null : simulatedLogprobs(id, p, 0))),
  );
  const plain = await engine.addRequest({ promptTokenIds: prompt }).collect();
  expect([plain.logprobs, plain.promptLogprobs]).toEqual([null, null]);
});

test("an executor without log-probabilities fails those who ask for them, and nobody else", async () => {
  const corrupt = ({
    stepIndex,
    tokenIds,
  }: {
    stepIndex: number;
    tokenIds: readonly number[];
  }) => ({
    stepIndex,
    tokenIds,
  });
  const engine = new Engine(new SimulatedExecutor(limits, { corrupt }), letterCodec);
  const asking = engine.addRequest({ promptTokenIds: prompt, sampling: { logprobs: 1 } });
  const other = engine.addRequest({ promptTokenIds: prompt, sampling: { maxTokens: 9 } });
  await expect(asking.collect()).rejects.toThrow("logprobs: expected some");
  expect((await other.collect()).tokenIds).toEqual(expectedTokens(other));
  await settled(engine);
});

test("a fork computes its prompt once; its choices differ, and each can be had alone", async () => {
  const { engine, executor } = engineOf({ scheduler: { enablePrefixCaching: false } });
  const sampling = { seed: 7, maxTokens: 12, ignoreEos: true };
  const streams = engine.addFork({ promptTokenIds: prompt, sampling, requestId: "f" }, 3);
  expect(streams.map(({ requestId }) => requestId)).toEqual(["f-0", "f-1", "f-2"]);
  const choices = await Promise.all(streams.map((stream) => stream.collect()));
  expect(choices.map(({ usage }) => usage.cachedTokens)).toEqual([0, 4, 4]);
  expect(new Set(choices.map(({ text }) => text)).size).toBe(3);
  const alone = engine.addRequest({ promptTokenIds: prompt, sampling: { ...sampling, seed: 9 } });
  expect((await alone.collect()).text).toBe(choices[2]?.text);
  expect(() =>
    engine.addFork({ promptTokenIds: prompt, sampling: { maxTokens: 1000 } }, 2),
  ).toThrow("maxTokens");
  expect(engine.stats.numWaiting).toBe(0);
  expect(executor.checker.seen.hits).toBe(2);
});

test("a grammar sees each token before it gives the next mask; others run ahead meanwhile", async () => {
  const { engine, executor } = engineOf();
  const seen: number[][] = [];
  const stream = engine.addRequest({
    promptTokenIds: prompt,
    sampling: { seed: 5, maxTokens: 6, ignoreEos: true },
    allowedTokens: (completion) => {
      seen.push([...completion]);
      return tokenMaskOf([completion.length + 1], 27);
    },
  });
  const other = engine.addRequest({
    promptTokenIds: prompt,
    sampling: { seed: 6, maxTokens: 40, ignoreEos: true },
  });
  expect((await stream.collect()).text).toBe("abcdef");
  expect(seen).toEqual([[], [1], [1, 2], [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 5]]);
  expect((await other.collect()).tokenIds).toEqual(expectedTokens(other));
  expect(executor.checker.seen.aheadDecodes).toBeGreaterThan(30);
});

test.each<[string, EngineRequest["allowedTokens"], string]>([
  ["throws", () => { throw new Error("bad grammar"); }, "bad grammar"], // prettier-ignore
  ["allows nothing", () => emptyTokenMask(27), "allowedTokens: expected at least 1 token"],
  ["has the wrong size", () => new Uint32Array(3), "expected 1 words"],
  ["throws later", (ids) => { if (ids.length > 2) throw new Error("late"); return null; }, "late"], // prettier-ignore
])("a mask that %s fails its request alone", async (_, allowedTokens, message) => {
  const { engine } = engineOf();
  const broken = engine.addRequest({
    promptTokenIds: prompt,
    sampling: { ignoreEos: true, maxTokens: 8 }, // an early end would be no failure
    ...(allowedTokens && { allowedTokens }),
  });
  await expect(broken.collect()).rejects.toThrow(message);
  const other = engine.addRequest({ promptTokenIds: prompt, sampling: { maxTokens: 5 } });
  expect((await other.collect()).tokenIds).toEqual(expectedTokens(other));
  await settled(engine);
  expect(engine.failure).toBe(null);
});

test("echo, usage and the events for metrics", async () => {
  let nowMs = 0;
  const [tokens, ends]: [string[], string[]] = [[], []];
  const { engine } = engineOf({
    now: () => nowMs,
    onStep: () => void (nowMs += 10),
    onToken: ({ requestId }, elapsedMs) => tokens.push(`${requestId} ${elapsedMs}`),
    onFinish: ({ requestId, finishReason, usage }) =>
      ends.push(`${requestId} ${finishReason} ${usage.completionTokens} ${usage.cachedTokens}`),
  });
  const sampling = { maxTokens: 2, ignoreEos: true, stop: ["abcdef"] }; // not searched in the echo
  const ask = (requestId: string): RequestStream =>
    engine.addRequest({ promptTokenIds: prompt, sampling, requestId, echo: true });
  const first = await ask("a").collect();
  expect(first.text).toBe(`abcdef${letters(first.tokenIds)}`);
  expect(first.usage).toEqual({ promptTokens: 6, completionTokens: 2, cachedTokens: 0 });
  expect((await ask("b").collect()).usage.cachedTokens).toBe(4);
  const aborted = ask("c");
  engine.abort("c");
  expect((await aborted.collect()).text).toBe("abcdef");
  expect(tokens).toEqual(["a 0", "a 10", "b 0", "b 10"]);
  expect(ends).toEqual(["a length 2 0", "b length 2 4", "c abort 0 0"]);
});

test("a rank that dies while nothing runs is known at once", async () => {
  const { engine, executor } = engineOf();
  const heard: Error[] = [];
  engine.onFailure((error) => heard.push(error));
  await engine.addRequest({ promptTokenIds: prompt, sampling: { maxTokens: 3 } }).collect();
  const cause = new WorkerError("rank 1: gone");
  executor.die(cause);
  executor.die(new WorkerError("rank 0: gone too"));
  expect([heard, engine.failure]).toEqual([[cause], cause]);
  engine.onFailure((error) => heard.push(error));
  expect(heard).toEqual([cause, cause]);
  expect(() => engine.addRequest({ promptTokenIds: prompt })).toThrow("rank 1: gone");
  await engine.shutdown();
});

test("a rank that dies with plans in flight that never return fails every request", async () => {
  const { engine, executor } = engineOf();
  const sampling = { maxTokens: 50, ignoreEos: true };
  const streams = Array.from({ length: 6 }, () =>
    engine.addRequest({ promptTokenIds: prompt, sampling }),
  );
  for (let turn = 0; turn < 4; turn++) await soon();
  executor.die(new WorkerError("rank 1: gone"));
  for (const stream of streams) await expect(stream.collect()).rejects.toThrow("rank 1: gone");
  await engine.shutdown();
  expect(executor.isShutDown).toBe(true);
});

test("a cache that others wrote to is not trusted", async () => {
  const { engine, executor } = engineOf();
  const cachedOf = async (): Promise<number> => {
    const stream = engine.addRequest({ promptTokenIds: prompt, sampling: { maxTokens: 2 } });
    return (await stream.collect()).usage.cachedTokens;
  };
  expect([await cachedOf(), await cachedOf()]).toEqual([0, 4]);
  executor.cacheEpoch += 1;
  expect([await cachedOf(), await cachedOf()]).toEqual([0, 4]);
});

test("shutting down is no failure", async () => {
  const { engine } = engineOf();
  const heard: Error[] = [];
  engine.onFailure((error) => heard.push(error));
  await engine.shutdown();
  expect(heard).toEqual([]);
});
