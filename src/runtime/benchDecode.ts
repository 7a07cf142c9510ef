/** Decode speed of a model and layout: tokens after the first, beside what the weights' bytes allow. */
import { median, quantile } from "../common/math.ts";
import type { EngineArgs, LayoutReport, LoadEvents } from "./engineArgs.ts";
import { type LoadedModel, loadModel } from "./loadModel.ts";
import type { RankStats, RunStats } from "./stats.ts";
import { type KernelTime, profileStep } from "./profileStep.ts";

export interface DecodeWorkload {
  /** Tokens of each prompt. */
  readonly promptLength: number;
  /** Tokens to generate, at least 2: the first is prefill's. */
  readonly numTokens: number;
  readonly repeats: number;
  /** Sequences at once. */
  readonly batchSize: number;
}

/** The median run of the repeats; rates are over all sequences. */
export interface DecodeReport {
  readonly model: string;
  readonly layout: LayoutReport;
  readonly workload: DecodeWorkload;
  /** Tokens after the first of each sequence, a second. */
  readonly tokPerS: number;
  readonly tokPerSMin: number;
  readonly tokPerSMax: number;
  readonly ttftMs: number;
  /** Weight bytes read a second, 1e9, over all ranks: each step reads all weights once. */
  readonly weightGBps: number;
  /** Measured read bandwidth of the first rank's adapter, and achieved over it, in percent. */
  readonly deviceGBps: number;
  readonly mbuPercent: number;
  readonly loadMs: number;
  /** Of the median run, per step, of the rank with the most of it. */
  readonly perStep: {
    readonly launches: number;
    readonly encodeMs: number;
    readonly submitMs: number;
    readonly cpuUsPerLaunch: number;
    readonly collectiveMs: number;
    readonly collectiveBytes: number;
  };
  /** GPU time of one decode step by kernel; empty where the adapter has no timestamps. */
  readonly kernels: readonly KernelTime[];
}

interface Run {
  readonly tokPerS: number;
  readonly ttftMs: number;
  readonly stats: RunStats;
}

/** Loads the model, warms up once, then repeats. */
export async function benchDecode(
  args: EngineArgs,
  workload: DecodeWorkload,
  events: LoadEvents = {},
): Promise<DecodeReport> {
  const begin = performance.now();
  const maxNumSeqs = Math.max(args.maxNumSeqs, workload.batchSize);
  const model = await loadModel({ ...args, maxNumSeqs }, events);
  const loadMs = performance.now() - begin;
  try {
    await runOnce(model, workload, 0); // first dispatches compile on some adapters
    const runs: Run[] = [];
    for (let repeat = 0; repeat < workload.repeats; repeat++) {
      runs.push(await runOnce(model, workload, repeat + 1)); // new prompts: no prefix hits
    }
    const kernels = await profileStep(model.executor, {
      phase: "decode",
      length: workload.promptLength,
      batchSize: workload.batchSize,
    });
    const deviceGBps = await model.bandwidthGBps();
    return summarise(model, workload, runs, { loadMs, deviceGBps, kernels });
  } finally {
    await model.shutdown();
  }
}

/** Prompts of pseudo-random ids: nothing in a dense model's speed depends on them. */
function prompts(
  vocabSize: number,
  { batchSize, promptLength }: DecodeWorkload,
  run: number,
): number[][] {
  return Array.from({ length: batchSize }, (_, sequence) =>
    Array.from(
      { length: promptLength },
      (_, i) => (7919 * (sequence + 1) + 31 * run + 104729 * i) % vocabSize,
    ),
  );
}

async function runOnce(model: LoadedModel, workload: DecodeWorkload, run: number): Promise<Run> {
  await model.resetStats();
  const sampling = { temperature: 0, maxTokens: workload.numTokens, ignoreEos: true };
  const all = prompts(model.config.vocabSize, workload, run);
  const completions = await model.llm.generateAll(all, sampling);
  const firstMs = completions.map(({ timings }) => timings.firstTokenMs ?? 0);
  const lastMs = completions.map(({ timings }) => timings.lastTokenMs ?? 0);
  const decodeMs = Math.max(...lastMs) - Math.max(...firstMs);
  const decoded = workload.batchSize * (workload.numTokens - 1);
  return {
    tokPerS: (decoded / decodeMs) * 1000,
    ttftMs: median(completions.map(({ timings }) => timings.ttftMs ?? 0)),
    stats: await model.stats(),
  };
}

function summarise(
  model: LoadedModel,
  workload: DecodeWorkload,
  runs: readonly Run[],
  { loadMs, deviceGBps, kernels }: Pick<DecodeReport, "loadMs" | "deviceGBps" | "kernels">,
): DecodeReport {
  const rates = runs.map(({ tokPerS }) => tokPerS);
  const tokPerS = median(rates);
  const middle = runs.find((run) => run.tokPerS === tokPerS) ?? runs[0];
  const stepsPerS = tokPerS / workload.batchSize;
  const weightGBps = ((middle?.stats.bytesPerToken ?? 0) * stepsPerS) / 1e9;
  const numDevices = new Set(model.layout.ranks.map(({ deviceIndex }) => deviceIndex)).size;
  return {
    model: model.layout.model,
    layout: model.layout,
    workload,
    tokPerS,
    tokPerSMin: quantile(rates, 0),
    tokPerSMax: quantile(rates, 1),
    ttftMs: median(runs.map(({ ttftMs }) => ttftMs)),
    weightGBps,
    deviceGBps,
    mbuPercent: (100 * weightGBps) / (deviceGBps * numDevices),
    loadMs,
    perStep: perStep(middle?.stats.ranks ?? []),
    kernels,
  };
}

function perStep(ranks: readonly RankStats[]): DecodeReport["perStep"] {
  const most = (value: (rank: RankStats) => number): number =>
    Math.max(0, ...ranks.map((rank) => value(rank) / Math.max(rank.numSteps, 1)));
  const launches = most(({ numLaunches }) => numLaunches);
  const encodeMs = most((rank) => rank.encodeMs);
  const submitMs = most((rank) => rank.submitMs);
  return {
    launches,
    encodeMs,
    submitMs,
    cpuUsPerLaunch: (1000 * (encodeMs + submitMs)) / Math.max(launches, 1),
    collectiveMs: most((rank) => rank.collectiveMs),
    collectiveBytes: most((rank) => rank.collectiveBytes),
  };
}
