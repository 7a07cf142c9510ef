/** Bursts on a real device: the same tokens as step by step, with fewer submits. */
import { describe, expect, test } from "vitest";
import type { ExecutorKind } from "../../src/runtime/engineArgs.ts";
import { LLM } from "../../src/runtime/llm.ts";
import type { Completion } from "../../src/runtime/request.ts";
import type { SamplingOptions } from "../../src/runtime/samplingParams.ts";
import type { RankStats } from "../../src/runtime/stats.ts";
import { fixtureDir, type Golden, loadGoldens } from "../support/goldens.ts";
import { testArgs, type TestModel, withModel } from "../support/layouts.ts";

const MODEL = fixtureDir("llama-gqa-tied");
/** More positions than one KV block's 16, so that block tables grow in the middle of bursts. */
const MAX_TOKENS = 38;

const CASES: Readonly<Record<string, SamplingOptions>> = {
  greedy: { temperature: 0 },
  unfiltered: { temperature: 1, seed: 101 },
  topK: { temperature: 0.8, topK: 40, seed: 102 },
  // more candidates than the 64 of a list: whole rows are sampled
  wideTopP: { temperature: 3, topP: 0.99, seed: 105 },
  // these go step by step
  penalties: { temperature: 1, repetitionPenalty: 1.3, seed: 101 },
  biased: { temperature: 1, seed: 101, logitBias: { 5: 3 } },
};
const IN_BURSTS = ["greedy", "unfiltered", "topK", "wideTopP"];

interface Run {
  readonly tokenIds: readonly (readonly number[])[];
  readonly numSteps: number;
  readonly numSubmits: number;
}

/** One prompt alone, then so many as a batch. A clock that stands still makes every step a short one. */
async function runAll(
  { executor, codec }: TestModel,
  prompts: readonly (readonly number[])[],
  options: SamplingOptions,
): Promise<Run> {
  const llm = new LLM(executor, codec, { now: () => 0 });
  const before = await executor.stats();
  const sampling = { maxTokens: MAX_TOKENS, ignoreEos: true, ...options };
  const completions: Completion[] = [];
  completions.push(await llm.generate(prompts[0] ?? [], sampling).collect());
  completions.push(...(await llm.generateAll(prompts, sampling)));
  const after = await executor.stats();
  const grown = (field: "numSteps" | "numSubmits"): number =>
    (after[0]?.[field] ?? 0) - (before[0]?.[field] ?? 0);
  return {
    tokenIds: completions.map(({ tokenIds }) => tokenIds),
    numSteps: grown("numSteps"),
    numSubmits: grown("numSubmits"),
  };
}

async function allCases(
  executor: ExecutorKind,
  numSchedulerSteps: number,
  goldens: readonly Golden[],
): Promise<ReadonlyMap<string, Run>> {
  const args = await testArgs(MODEL, { executor }, { numSchedulerSteps });
  const prompts = goldens.slice(0, 3).map(({ promptIds }) => promptIds);
  return await withModel(args, async (model) => {
    const runs = new Map<string, Run>();
    for (const [name, options] of Object.entries(CASES)) {
      runs.set(name, await runAll(model, prompts, options));
    }
    return runs;
  });
}

describe.each(["inProcess", "workerThreads"] as const)("%s", (executor) => {
  test("bursts of 4 and of 3 give the tokens of single steps, in fewer submits", async () => {
    const goldens = await loadGoldens(MODEL);
    const single = await allCases(executor, 1, goldens);
    for (const { numSteps, numSubmits } of single.values()) expect(numSubmits).toBe(numSteps);
    const [alone = []] = single.get("greedy")?.tokenIds ?? [];
    const wanted = goldens[0]?.greedyIds ?? [];
    expect(alone.slice(0, wanted.length)).toEqual(wanted.slice(0, MAX_TOKENS));
    for (const burstSteps of executor === "inProcess" ? [4, 3] : [4]) {
      const bursts = await allCases(executor, burstSteps, goldens);
      for (const [name, run] of bursts) {
        expect(run.tokenIds, name).toEqual(single.get(name)?.tokenIds);
        if (IN_BURSTS.includes(name)) expect(run.numSubmits).toBeLessThan(0.5 * run.numSteps);
        else expect(run.numSubmits).toBe(run.numSteps);
      }
    }
  });
});

test("20 steps in bursts create no buffer, bind group or pipeline", async () => {
  const [golden] = await loadGoldens(MODEL);
  await withModel(await testArgs(MODEL), async (model) => {
    const created = async (): Promise<unknown[]> => {
      await runAll(model, [golden?.promptIds ?? []], { temperature: 0 });
      const stats: readonly RankStats[] = await model.executor.stats();
      return stats.map(({ buffers, bindGroups, pipelines }) => [buffers, bindGroups, pipelines]);
    };
    const before = await created();
    expect(await created()).toEqual(before);
  });
});
