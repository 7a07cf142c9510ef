/**
 * Two micro-batches at once: the same tokens as one batch at a time, whatever a request asks for; one
 * computes while the other's sums travel; and no plan overtakes an older one in a layer.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import type { EngineArgs, ExecutorKind } from "../../src/runtime/engineArgs.ts";
import type { SamplingOptions } from "../../src/runtime/samplingParams.ts";
import { TraceFile } from "../../src/runtime/trace/traceFileNode.ts";
import { fixtureDir, loadGoldens } from "../support/goldens.ts";
import { testArgs, withModel } from "../support/layouts.ts";
import { type ReadSpan, type ReadTrace, readTrace } from "../support/readTrace.ts";

const MODEL = fixtureDir("llama-gqa-tied");
const OVERLAP = { tpSize: 2, enableDualBatchOverlap: true };

/** Requests that use every table that a step fills: rows of two micro-batches must not meet in one. */
const REQUESTS: readonly SamplingOptions[] = [
  { temperature: 0 },
  { temperature: 0, logitBias: { 7: 4, 11: 3 }, logprobs: 2 },
  { temperature: 1, seed: 5, repetitionPenalty: 1.4, presencePenalty: 0.5 },
  { temperature: 0, logitBias: { 3: -100, 9: 5 }, frequencyPenalty: 0.7 },
  { temperature: 0.9, seed: 6, topP: 0.9 },
  { temperature: 3, seed: 7, topK: 100, logprobs: 1 },
  { temperature: 0, repetitionPenalty: 1.3, logprobs: 3 },
  { temperature: 1.2, seed: 8, minP: 0.05 },
];
const MAX_TOKENS = 10;

/** Completions of the requests over prompts of 1 to 90 tokens, in chunks of 16 to 48. */
async function complete(layout: Partial<EngineArgs>): Promise<unknown[]> {
  const goldens = await loadGoldens(MODEL);
  const args = await testArgs(MODEL, {}, { maxNumSeqs: 6, maxNumBatchedTokens: 48, ...layout });
  return await withModel(args, async ({ llm }) => {
    const streams = REQUESTS.map((sampling, i) => {
      const prompt = goldens[(i + 1) % goldens.length]?.promptIds ?? [];
      return llm.generate(prompt, { ...sampling, maxTokens: MAX_TOKENS, ignoreEos: true });
    });
    const completions = await Promise.all(streams.map((stream) => stream.collect()));
    return completions.map(({ tokenIds, logprobs }) => ({
      tokenIds,
      logprobs: logprobs?.map(({ tokenId }) => tokenId) ?? null,
    }));
  });
}

const layouts: readonly (Partial<EngineArgs> & { readonly executor: ExecutorKind })[] = [
  { executor: "inProcess", ppSize: 1 },
  { executor: "inProcess", dboDecodeTokenThreshold: 4 }, // above and below it in turns
  { executor: "inProcess", ppSize: 2 },
  { executor: "workerThreads", ppSize: 1 },
];

test.each(layouts)(
  "the tokens of each request are those without it: %o",
  { timeout: 300_000 },
  async (layout) => {
    const without = await complete({ ...layout, tpSize: 2 });
    const overlapped = await complete({ ...layout, ...OVERLAP });
    expect(overlapped).toEqual(without);
  },
);

test("what has nothing to overlap is refused before anything is loaded", async () => {
  const refused = async (layout: Partial<EngineArgs>): Promise<void> => {
    const args = await testArgs(MODEL, {}, { enableDualBatchOverlap: true, ...layout });
    await withModel(args, () => Promise.resolve());
  };
  const flag = "--enable-dual-batch-overlap: expected";
  await expect(refused({ tpSize: 1 })).rejects.toThrow(`${flag} --tensor-parallel-size of 2 or`);
  await expect(refused({ tpSize: 1, ppSize: 2 })).rejects.toThrow("got 1");
  await expect(refused({ tpSize: 2, maxNumSeqs: 1 })).rejects.toThrow(
    `${flag} --max-num-seqs of 2`,
  );
});

describe("in a trace", () => {
  test("submits keep the order of plans, and one micro-batch computes while the other waits", async () => {
    const trace = await tracedBatch();
    for (const rank of ["rank 0", "rank 1"]) {
      const steps = stepsOf(trace, rank);
      expect(steps.length).toBeGreaterThan(MAX_TOKENS);
      for (const [at, { submits }] of steps.entries()) {
        const older = steps[at - 1]?.submits ?? [];
        for (const [index, submit] of submits.entries()) {
          // a plan's last segments may be more than an older one's, as it samples more
          const before = older[index];
          if (before !== undefined) expect(submit.ts).toBeGreaterThan(before.ts);
        }
      }
      expect(overlapUs(trace, rank)).toBeGreaterThan(0);
    }
  });
});

/** Four prompts, traced, over a link that leaves time to overlap. */
async function tracedBatch(): Promise<ReadTrace> {
  const folder = mkdtempSync(join(tmpdir(), "tandem-trace-"));
  onTestFinished(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  const profile = new TraceFile(join(folder, "trace.json"));
  const link = { simulatedLink: { latencyMs: 2 }, profile };
  await withModel(await testArgs(MODEL, OVERLAP, link), async ({ llm }) => {
    const goldens = await loadGoldens(MODEL);
    const options = { temperature: 0, maxTokens: MAX_TOKENS, ignoreEos: true };
    const prompts = goldens.map(({ promptIds }) => promptIds);
    const completions = await llm.generateAll(prompts, options);
    for (const [i, { greedyIds }] of goldens.entries()) {
      expect(completions[i]?.tokenIds).toEqual(greedyIds.slice(0, MAX_TOKENS));
    }
  });
  return readTrace(readFileSync(profile.path, "utf8"));
}

interface TracedStep {
  readonly submits: readonly ReadSpan[];
}

/** The submits of each step of a rank, in order. */
function stepsOf(trace: ReadTrace, rank: string): TracedStep[] {
  const submits = trace.spans.filter(({ process, name }) => process === rank && name === "submit");
  const bySteps = Map.groupBy(submits, ({ args }) => Number(args["step"]));
  return [...bySteps]
    .sort(([a], [b]) => a - b)
    .map(([, ofStep]) => ({ submits: ofStep.sort((a, b) => a.ts - b.ts) }));
}

/** Time in which kernels of one micro-batch ran while an all-reduce of the other was under way. */
function overlapUs(trace: ReadTrace, rank: string): number {
  const sums = trace.of(rank, "operations 1").filter(({ name }) => name.startsWith("allReduce m"));
  return trace.of(rank, "GPU").reduce((total, kernel) => {
    const shared = sums.map(
      (sum) => Math.min(kernel.ts + kernel.dur, sum.ts + sum.dur) - Math.max(kernel.ts, sum.ts),
    );
    return total + Math.max(0, ...shared);
  }, 0);
}
