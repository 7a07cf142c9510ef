/** The trace of a real run: every rank, on one clock, kernels inside their steps, times that add up. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import type { EngineArgs } from "../../../src/runtime/engineArgs.ts";
import { loadModel } from "../../../src/runtime/loadModel.ts";
import { TraceFile } from "../../../src/runtime/trace/traceFileNode.ts";
import { fixtureDir, loadGoldens } from "../../support/goldens.ts";
import { testArgs } from "../../support/layouts.ts";
import { type ReadTrace, readTrace, type ReadSpan } from "../../support/readTrace.ts";

const MODEL = fixtureDir("llama-mha");
const NUM_TOKENS = 6;

interface TracedRun {
  readonly trace: ReadTrace;
  readonly elapsedMs: number;
  readonly numLayers: number;
}

/** Greedy tokens of one prompt, traced; they are those of the golden. */
async function tracedRun(sizes: Partial<EngineArgs>): Promise<TracedRun> {
  const folder = mkdtempSync(join(tmpdir(), "tandem-trace-"));
  onTestFinished(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  const profile = new TraceFile(join(folder, "trace.json"));
  const model = await loadModel(await testArgs(MODEL, { tpSize: 2 }, { ...sizes, profile }));
  const [golden] = await loadGoldens(MODEL);
  const beginMs = performance.now();
  const sampling = { temperature: 0, maxTokens: NUM_TOKENS, ignoreEos: true };
  const { tokenIds } = await model.llm.generate(golden?.promptIds ?? [], sampling).collect();
  const elapsedMs = performance.now() - beginMs;
  await model.shutdown();
  expect(tokenIds).toEqual(golden?.greedyIds.slice(0, NUM_TOKENS));
  const trace = readTrace(readFileSync(profile.path, "utf8"));
  return { trace, elapsedMs, numLayers: model.config.numLayers };
}

const endOf = ({ ts, dur }: ReadSpan): number => ts + dur;
const sumOf = (spans: readonly ReadSpan[]): number => spans.reduce((sum, { dur }) => sum + dur, 0);

describe.each(["inProcess", "workerThreads"] as const)("%s", (executor) => {
  test("every rank's steps, kernels and collectives, on one clock", async () => {
    const { trace, elapsedMs, numLayers } = await tracedRun({ executor });
    expect(trace.processes).toEqual(["engine", "rank 0", "rank 1"]);
    for (const { ts, dur } of trace.spans) {
      expect(ts).toBeGreaterThanOrEqual(0);
      expect(dur).toBeGreaterThanOrEqual(0);
    }
    const first = Math.min(...trace.of("engine", "steps").map(({ ts }) => ts));
    const last = Math.max(...trace.of("engine", "steps").map(endOf));
    expect(last - first).toBeLessThanOrEqual(elapsedMs * 1000);
    for (const rank of ["rank 0", "rank 1"]) {
      expectStages(trace, rank);
      const sums = trace.of(rank, "operations").filter(({ name }) => name === "allReduce oneShot");
      expect(sums).toHaveLength(2 * numLayers * NUM_TOKENS);
      // one queue: kernels follow each other, inside the time that the engine saw
      const kernels = trace.of(rank, "GPU");
      expect(kernels.length).toBeGreaterThan(4 * numLayers * NUM_TOKENS);
      expect(sumOf(kernels)).toBeLessThanOrEqual(last - first);
    }
    expectInsideEngineSteps(trace);
    expectInsideSteps(trace);
    expectMeetings(trace);
  });
});

function expectStages(trace: ReadTrace, rank: string): void {
  expect(trace.of(rank, "steps").map(({ name }) => name)).toEqual(
    Array.from({ length: NUM_TOKENS }, (_, step) => `step ${step}`),
  );
  expect(trace.of(rank, "load").map(({ name }) => name)).toEqual([
    "device",
    "weights",
    "KV cache and pipelines",
  ]);
  const names = new Set(trace.spans.filter((span) => span.process === rank).map((s) => s.name));
  for (const name of ["inputs", "encode", "submit", "map", "upload"]) expect(names).toContain(name);
}

/** A rank begins a step after the engine gave it; the engine has the tokens after the sampling rank. */
function expectInsideEngineSteps(trace: ReadTrace): void {
  for (const given of trace.of("engine", "steps")) {
    const ranks = trace.spans.filter(
      ({ process, track, name }) =>
        process !== "engine" && track === "steps" && name === given.name,
    );
    expect(ranks).toHaveLength(2);
    for (const rank of ranks) expect(rank.ts).toBeGreaterThan(given.ts - CLOCK_SLACK_US);
    const sampling = ranks.find(({ process }) => process === "rank 0");
    expect(sampling === undefined ? Infinity : endOf(sampling)).toBeLessThan(
      endOf(given) + CLOCK_SLACK_US,
    );
  }
}

/** A GPU's clock is not the host's: kernels land in their step only if it was converted well. */
function expectInsideSteps(trace: ReadTrace): void {
  const steps = trace.spans.filter(({ track }) => track === "steps");
  for (const kernel of trace.spans.filter(({ track }) => track === "GPU")) {
    const step = steps.find(
      ({ process, args }) => process === kernel.process && args["step"] === kernel.args["step"],
    );
    expect(kernel.ts).toBeGreaterThanOrEqual(step?.ts ?? Infinity);
    expect(endOf(kernel)).toBeLessThanOrEqual(step === undefined ? 0 : endOf(step));
  }
}

/** No rank leaves an all-reduce before the last has come: true on one clock only. */
function expectMeetings(trace: ReadTrace): void {
  const sums = trace.spans.filter(({ name }) => name === "allReduce oneShot");
  const meetings = Map.groupBy(sums, ({ args }) => args["sequence"]);
  for (const members of meetings.values()) {
    expect(members).toHaveLength(2);
    const lastBegin = Math.max(...members.map(({ ts }) => ts));
    expect(Math.min(...members.map(endOf))).toBeGreaterThan(lastBegin - CLOCK_SLACK_US);
  }
}

/** Threads read the clock one after the other, and may be interrupted in between. */
const CLOCK_SLACK_US = 200;
