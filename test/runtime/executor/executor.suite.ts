/**
 * The contract of an Executor over ranks, run by each kind: `executorSuite("inProcess")`. Requests go
 * through the engine where the contract is about requests, and plans are given by hand where it is
 * about plans.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ExecutorKind } from "../../../src/runtime/engineArgs.ts";
import type { Engine } from "../../../src/runtime/engine.ts";
import { LLM } from "../../../src/runtime/llm.ts";
import { type StartedRanks, startRanks } from "../../../src/runtime/loadModel.ts";
import { gpuSamplingParams, resolveSamplingParams } from "../../../src/runtime/samplingParams.ts";
import type { RankStats } from "../../../src/runtime/stats.ts";
import type { ScheduledSequence, StepPlan } from "../../../src/runtime/stepPlan.ts";
import { fixtureDir, type Golden, loadGoldens } from "../../support/goldens.ts";
import { layoutName, testArgs, type TestLayout, testOpener } from "../../support/layouts.ts";

const MODEL = fixtureDir("llama-gqa-tied");
/** Less than the longest prompt (90 tokens): it is prefilled in six chunks. */
const SIZES = { maxNumSeqs: 3, maxNumBatchedTokens: 16 };
const GREEDY = { temperature: 0, ignoreEos: true, maxTokens: 24 };

async function start(layout: TestLayout): Promise<StartedRanks> {
  const args = await testArgs(MODEL, layout, SIZES);
  return await startRanks(args, {}, undefined, { opener: testOpener });
}

export function executorSuite(executor: ExecutorKind): void {
  const overlapped = { tpSize: 2, enableDualBatchOverlap: true };
  const several = [{ tpSize: 2 }, { tpSize: 1, ppSize: 2 }, overlapped];
  // one rank compiles anew on a thread of its own, and has no one to talk to
  const sizes = executor === "inProcess" ? [{ tpSize: 1 }, ...several] : several;
  describe.each(sizes)("%o", (size) => {
    runningSuite({ ...size, executor });
  });
  stoppingSuite({ tpSize: 2, executor });
}

/** What holds while it runs; the tests share one executor, each with an engine of its own. */
function runningSuite(layout: TestLayout): void {
  let started: StartedRanks;
  let goldens: Golden[] = [];
  beforeAll(async () => {
    goldens = await loadGoldens(MODEL);
    started = await start(layout);
  }, 120_000);
  afterAll(async () => {
    await started.executor.shutdown();
  });
  // A clock that stands still makes every step a short one: as many plans are in flight as there may be.
  const newLlm = (): LLM => new LLM(started.executor, started.codec, { now: () => 0 });

  test("several plans in flight: outputs come in their order", async () => {
    const [golden] = goldens;
    const plans = plansOf(golden?.promptIds ?? [], 8);
    const { maxInFlight } = started.executor.limits;
    const settled: number[] = [];
    const tokens: number[] = [];
    const inFlight: Promise<void>[] = [];
    for (const plan of plans) {
      if (inFlight.length >= maxInFlight) await inFlight.shift();
      inFlight.push(
        started.executor.execute(plan).then(({ stepIndex, tokenIds }) => {
          settled.push(stepIndex);
          tokens.push(...tokenIds);
        }),
      );
    }
    await Promise.all(inFlight);
    expect(settled).toEqual(plans.map(({ stepIndex }) => stepIndex));
    expect(tokens).toEqual(golden?.greedyIds.slice(0, plans.length));
  });

  test("a step that samples nothing does not overtake one whose tokens are on their way", async () => {
    const [golden] = goldens;
    const plans = plansOf(golden?.promptIds ?? [], 8);
    const settled: number[] = [];
    const tokens: number[] = [];
    for (const { sequences, stepIndex, dependsOnStep } of plans) {
      const sampling = { sequences, stepIndex: 2 * stepIndex, dependsOnStep: 2 * dependsOnStep };
      const silent = { ...chunkOf(16), stepIndex: 2 * stepIndex + 1 };
      const outputs = [sampling, silent].map(async (plan) => {
        const output = await started.executor.execute(plan);
        settled.push(output.stepIndex);
        return output;
      });
      const [first, second] = await Promise.all(outputs);
      tokens.push(...(first?.tokenIds ?? []));
      expect(second?.tokenIds).toEqual([]);
    }
    expect(settled).toEqual(Array.from({ length: 16 }, (_, step) => step));
    expect(tokens).toEqual(golden?.greedyIds.slice(0, 8));
  });

  test("chunked prefill equals whole: the golden tokens of a prompt of 90 in chunks of 16", async () => {
    const golden = goldens.find(({ promptIds }) => promptIds.length === 90);
    const { tokenIds } = await newLlm()
      .generate(golden?.promptIds ?? [], GREEDY)
      .collect();
    expect(tokenIds).toEqual(golden?.greedyIds);
  });

  test("a batch of more requests than slots gives each its tokens alone", async () => {
    const prompts = goldens.map(({ promptIds }) => promptIds);
    const completions = await newLlm().generateAll([...prompts, ...prompts], GREEDY);
    const wanted = goldens.map(({ greedyIds }) => greedyIds);
    expect(completions.map(({ tokenIds }) => tokenIds)).toEqual([...wanted, ...wanted]);
  });

  test("a cancelled request ends at once; the others and the next do not notice", async () => {
    const llm = newLlm();
    const [, kept, cancelled] = goldens;
    const other = llm.generate(kept?.promptIds ?? [], GREEDY).collect();
    let numTokens = 0;
    let last: string | null = null;
    const stream = llm.generate(cancelled?.promptIds ?? [], { ...GREEDY, maxTokens: 200 });
    for await (const { tokenId, finishReason } of stream) {
      if (tokenId !== null && ++numTokens === 3) llm.engine.abort(stream.requestId);
      last = finishReason;
    }
    expect(last).toBe("abort");
    expect((await other).tokenIds).toEqual(kept?.greedyIds);
    const next = await llm.generate(cancelled?.promptIds ?? [], GREEDY).collect();
    expect(next.tokenIds).toEqual(cancelled?.greedyIds);
    await idle(llm.engine);
    expect(llm.engine.stats).toMatchObject({ numRunning: 0, numDraining: 0, numPlansInFlight: 0 });
  });

  test("20 decode steps create no buffer, bind group or pipeline", async () => {
    const llm = newLlm();
    const generate = async (): Promise<readonly RankStats[]> => {
      await llm.generate(goldens[1]?.promptIds ?? [], GREEDY).collect();
      return await started.executor.stats();
    };
    const before = await generate();
    const after = await generate();
    const created = (stats: readonly RankStats[]): unknown =>
      stats.map(({ buffers, bindGroups, pipelines }) => ({ buffers, bindGroups, pipelines }));
    expect(created(after)).toEqual(created(before));
    const numSteps = (after[0]?.numSteps ?? 0) - (before[0]?.numSteps ?? 0);
    expect(numSteps).toBeGreaterThan(20);
  });
}

/** Ends of an executor; each test starts its own. */
function stoppingSuite(layout: TestLayout): void {
  test(`shutdown while idle, twice, ${layoutName(layout)}`, async () => {
    const { executor, codec } = await start(layout);
    const llm = new LLM(executor, codec);
    await llm.generate([1, 2, 3], { ...GREEDY, maxTokens: 2 }).collect();
    await llm.shutdown();
    await llm.shutdown();
    await executor.shutdown();
    expect(() => llm.generate([1])).toThrow("shut down");
  });

  test(`shutdown while busy ends what runs with "abort", ${layoutName(layout)}`, async () => {
    const { executor, codec } = await start(layout);
    const llm = new LLM(executor, codec);
    const long = { ...GREEDY, maxTokens: 400 };
    const streams = [llm.generate([1, 2, 3], long), llm.generate([4], long)];
    const completions = Promise.all(streams.map((stream) => stream.collect()));
    await new Promise((resolve) => setTimeout(resolve, 50));
    await llm.shutdown();
    const reasons = (await completions).map(({ finishReason }) => finishReason);
    expect(reasons).toEqual(["abort", "abort"]);
  });
}

/** A prefill and the decodes after it, each planned before the token that it reads is known. */
function plansOf(promptIds: readonly number[], numTokens: number): StepPlan[] {
  const sampling = gpuSamplingParams(resolveSamplingParams({ temperature: 0, seed: 0 }));
  return Array.from({ length: numTokens }, (_, stepIndex): StepPlan => {
    const isFirst = stepIndex === 0;
    const samplePosition = promptIds.length + stepIndex;
    const sequence: ScheduledSequence = {
      slot: 1,
      isFirst,
      startPosition: isFirst ? 0 : samplePosition - 1,
      numTokens: isFirst ? promptIds.length : 1,
      tokenIds: isFirst ? promptIds : null,
      blockTable: [5, 3],
      promptLength: promptIds.length,
      samples: true,
      sampling,
      samplePosition,
    };
    return { stepIndex, sequences: [sequence], dependsOnStep: stepIndex - 1 };
  });
}

/** The first part of a long prompt in a slot and blocks of its own: nothing is sampled from it. */
function chunkOf(numTokens: number): Omit<StepPlan, "stepIndex"> {
  const [{ sequences: [whole] } = { sequences: [] }] = plansOf([1], 1);
  if (whole === undefined) throw new Error("no plan");
  const tokenIds = Array.from({ length: numTokens }, (_, token) => token);
  const chunk = { slot: 2, numTokens, tokenIds, blockTable: [7, 8], promptLength: 32 };
  return { sequences: [{ ...whole, ...chunk, samples: false }], dependsOnStep: -1 };
}

/** Plans of an aborted request may still be on their way. */
async function idle(engine: Engine): Promise<void> {
  while (engine.stats.numPlansInFlight > 0) await new Promise((resolve) => setTimeout(resolve, 5));
}
