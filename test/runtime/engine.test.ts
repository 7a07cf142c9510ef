import fc from "fast-check";
import { expect, test } from "vitest";
import { PromptError, UsageError, WorkerError } from "../../src/common/errors.ts";
import { Engine } from "../../src/runtime/engine.ts";
import type { ExecutorLimits } from "../../src/runtime/executor/executor.ts";
import type { RequestOutput } from "../../src/runtime/request.ts";
import type { RequestStream } from "../../src/runtime/requestStream.ts";
import { expectedCompletion } from "../support/simulatedModel.ts";
import { letterCodec, SimulatedExecutor } from "../support/simulatedExecutor.ts";

const limits: ExecutorLimits = {
  maxNumSeqs: 4,
  maxNumBatchedTokens: 12,
  blockSize: 4,
  numBlocks: 15, // one full context: two long requests preempt each other
  maxModelLen: 60,
  vocabSize: 27,
  maxInFlight: 3,
};

const prompt = [1, 2, 3];
const endless = { maxTokens: 50, ignoreEos: true };
const soon = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function expectedTokens({ request }: RequestStream): number[] {
  return expectedCompletion(request.promptTokenIds, request.sampling, request, limits);
}

function expectedText(stream: RequestStream): string {
  const tokens = expectedTokens(stream);
  const isStopped = stream.request.stopTokenIds.has(tokens.at(-1) ?? -1);
  return String.fromCharCode(...(isStopped ? tokens.slice(0, -1) : tokens).map((id) => 96 + id));
}

test("requests that come at any time get their own tokens and text, and leave nothing", async () => {
  const arrivals = fc.record({
    prompt: fc.array(fc.nat(26), { minLength: 1, maxLength: 25 }),
    maxTokens: fc.integer({ min: 1, max: 30 }),
    ignoreEos: fc.boolean(),
    numTurnsBefore: fc.nat(3),
    numTokensRead: fc.option(fc.integer({ min: 1, max: 10 }), { freq: 3 }), // then the reader leaves
  });
  let numPreemptions = 0;
  const holds = fc.asyncProperty(
    fc.array(arrivals, { minLength: 1, maxLength: 8 }),
    fc.integer({ min: 1, max: 4 }),
    async (requests, maxInFlight) => {
      const executor = new SimulatedExecutor({ ...limits, maxInFlight });
      const engine = new Engine(executor, letterCodec);
      const readers: Promise<void>[] = [];
      for (const { prompt: promptTokenIds, numTurnsBefore, numTokensRead, ...rest } of requests) {
        for (let turn = 0; turn < numTurnsBefore; turn++) await soon();
        const stream = engine.addRequest({ promptTokenIds, sampling: rest });
        readers.push(read(stream, numTokensRead ?? Number.POSITIVE_INFINITY));
      }
      await Promise.all(readers);
      await engine.shutdown();
      numPreemptions += engine.stats.numPreemptions;
      expect(engine.stats).toMatchObject({ numUsedBlocks: 0, numRunning: 0, numDraining: 0 });
    },
  );
  await fc.assert(holds, { numRuns: 60 });
  expect(numPreemptions).toBeGreaterThan(0);
});

async function read(stream: RequestStream, maxTokens: number): Promise<void> {
  const outputs: RequestOutput[] = [];
  for await (const output of stream) {
    outputs.push(output);
    if (outputs.length >= maxTokens) break;
  }
  const isWhole = outputs.at(-1)?.finishReason !== null;
  const [tokens, text] = [expectedTokens(stream), expectedText(stream)];
  const gotText = outputs.map((output) => output.text).join("");
  expect(outputs.map(({ tokenId }) => tokenId)).toEqual(tokens.slice(0, outputs.length));
  expect(outputs.slice(0, -1).every(({ finishReason }) => finishReason === null)).toBe(true);
  expect(isWhole ? text : text.slice(0, gotText.length)).toBe(gotText);
  if (isWhole) expect(outputs.length).toBe(tokens.length);
}

test("plans are kept in flight, up to maxInFlight", async () => {
  const executor = new SimulatedExecutor(limits);
  const engine = new Engine(executor, letterCodec);
  await engine.addRequest({ promptTokenIds: prompt, sampling: endless }).collect();
  expect(executor.checker.seen.maxInFlight).toBe(3);
  expect(executor.checker.seen.aheadDecodes).toBeGreaterThan(40);
  expect(executor.numSteps).toBe(50); // a known length plans no surplus
});

const cause = new WorkerError("rank 1: gone");
test.each([
  ["rejects", { failAtStep: 4, error: cause }, "rank 1: gone"],
  ["throws", { failAtStep: 4, error: cause, throws: true }, "rank 1: gone"],
  ["rejects with no Error", { failAtStep: 4, error: "lost" }, "lost"],
  [
    "answers with too many tokens",
    { corrupt: (output: { stepIndex: number }) => ({ ...output, tokenIds: [1, 1, 1, 1, 1] }) },
    "step output: expected step 0",
  ],
])("an executor that %s fails every request, waiting or running", async (_, faults, message) => {
  const executor = new SimulatedExecutor(limits, faults);
  const engine = new Engine(executor, letterCodec);
  const add = (): RequestStream => engine.addRequest({ promptTokenIds: prompt, sampling: endless });
  const streams = Array.from({ length: 7 }, add);
  const results = await Promise.allSettled(streams.map((stream) => stream.collect()));
  for (const result of results) {
    expect(result.status === "rejected" && String(result.reason)).toContain(message);
  }
  expect(engine.failure?.message).toContain(message);
  expect(add).toThrow(message);
  await engine.shutdown();
  expect(executor.isShutDown).toBe(true);
});

test("outputs from before a failure are read first", async () => {
  const executor = new SimulatedExecutor(limits, { failAtStep: 4, error: cause });
  const stream = new Engine(executor, letterCodec).addRequest({
    promptTokenIds: prompt,
    sampling: endless,
  });
  const tokens: (number | null)[] = [];
  await expect(async () => {
    for await (const { tokenId } of stream) tokens.push(tokenId);
  }).rejects.toBe(cause);
  expect(tokens).toEqual(expectedTokens(stream).slice(0, 4));
});

test("abort ends a stream at once, once, and frees its blocks", async () => {
  const engine = new Engine(new SimulatedExecutor(limits), letterCodec);
  const stream = engine.addRequest({ promptTokenIds: prompt, sampling: endless, requestId: "a" });
  const other = engine.addRequest({ promptTokenIds: prompt, sampling: endless, requestId: "b" });
  for (let turn = 0; turn < 10; turn++) await soon();
  expect([engine.abort("a"), engine.abort("a"), engine.abort("c")]).toEqual([true, false, false]);
  const { finishReason, tokenIds, text } = await stream.collect();
  expect([finishReason, tokenIds.length > 0, text.length]).toEqual([
    "abort",
    true,
    tokenIds.length,
  ]);
  expect((await other.collect()).tokenIds).toEqual(expectedTokens(other));
  expect(engine.stats).toMatchObject({ numUsedBlocks: 0, numDraining: 0 });
});

test("a reader that leaves ends its request", async () => {
  const executor = new SimulatedExecutor(limits);
  const engine = new Engine(executor, letterCodec);
  for await (const { finishReason } of engine.addRequest({
    promptTokenIds: prompt,
    sampling: endless,
  })) {
    expect(finishReason).toBe(null);
    break;
  }
  while (engine.stats.numDraining > 0) await soon();
  expect(engine.stats).toMatchObject({ numRunning: 0, numUsedBlocks: 0, numPlansInFlight: 0 });
  expect(executor.numSteps).toBeLessThan(10);
});

test("an aborted request's name may be used while its plans are still in flight", async () => {
  const engine = new Engine(new SimulatedExecutor({ ...limits, maxInFlight: 1 }), letterCodec);
  const add = (seed: number): RequestStream =>
    engine.addRequest({ promptTokenIds: prompt, sampling: { ...endless, seed }, requestId: "a" });
  add(1);
  for (let turn = 0; turn < 5; turn++) await soon();
  engine.abort("a");
  expect(engine.stats.numDraining).toBe(1);
  const second = add(2);
  expect((await second.collect()).tokenIds).toEqual(expectedTokens(second));
});

test("shutdown aborts what runs and refuses what comes", async () => {
  const executor = new SimulatedExecutor(limits);
  const engine = new Engine(executor, letterCodec);
  const stream = engine.addRequest({ promptTokenIds: prompt, sampling: endless });
  await soon();
  await Promise.all([engine.shutdown(), engine.shutdown()]);
  expect((await stream.collect()).finishReason).toBe("abort");
  expect([executor.isShutDown, engine.stats.numUsedBlocks]).toEqual([true, 0]);
  expect(() => engine.addRequest({ promptTokenIds: prompt })).toThrow("it was shut down");
});

test("bad requests are refused and do not disturb the engine", async () => {
  const engine = new Engine(new SimulatedExecutor(limits), letterCodec);
  const stream = engine.addRequest({ promptTokenIds: prompt, requestId: "a" });
  expect(() => engine.addRequest({ promptTokenIds: prompt, requestId: "a" })).toThrow(UsageError);
  expect(() => engine.addRequest({ promptTokenIds: [] })).toThrow(PromptError);
  expect(() => engine.addRequest({ promptTokenIds: prompt, sampling: { topP: 2 } })).toThrow(
    "topP",
  );
  expect((await stream.collect()).tokenIds).toEqual(expectedTokens(stream));
  engine.addRequest({ promptTokenIds: prompt, requestId: "a" }); // the name is free again
  await engine.shutdown();
});

test("timings", async () => {
  let nowMs = 100;
  const options = { now: () => nowMs, onStep: () => void (nowMs += 10) };
  const engine = new Engine(
    new SimulatedExecutor({ ...limits, maxInFlight: 1 }),
    letterCodec,
    options,
  );
  const sampling = { maxTokens: 4, ignoreEos: true };
  const stream = engine.addRequest({
    promptTokenIds: Array.from({ length: 20 }, () => 1),
    sampling,
  });
  expect(stream.timings).toMatchObject({ arrivalMs: 100, ttftMs: null, tpotMs: null });
  const { timings } = await stream.collect(); // two chunks of prefill, then three decodes
  expect(timings).toEqual({
    arrivalMs: 100,
    scheduledMs: 100,
    firstTokenMs: 110,
    lastTokenMs: 140,
    queueMs: 0,
    ttftMs: 10,
    tpotMs: 10,
  });
});
