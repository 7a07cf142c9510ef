/** Decode speed: tokens after the first, beside what reading the weights and the KV cache allows. */
import { median } from "../../common/math.ts";
import type { EngineArgs, LoadEvents } from "../engineArgs.ts";
import { profileStep, timeStep } from "../profileStep.ts";
import type { RankStats, RunStats } from "../stats.ts";
import { type BatchWorkload, type BatchWorkloads, benchBatches } from "./batches.ts";
import { decodeFlops, decodePositions, kvBytesPerPosition } from "./bounds.ts";
import { greedy } from "./prompts.ts";
import type { BenchReport, Fields } from "./report.ts";
import type { BenchSession, MeasuredRow, Repeats } from "./session.ts";
import { spread } from "./spread.ts";

interface Run {
  readonly tokPerS: number;
  readonly ttftMs: number;
  readonly stats: RunStats;
}

const COLUMNS = [
  { key: "batch_size", title: "batch" },
  { key: "prompt_len", title: "prompt" },
  { key: "output_len", title: "output" },
  { key: "tok_per_s", title: "tok/s" },
  { key: "tok_per_s_min", title: "min" },
  { key: "tok_per_s_max", title: "max" },
  { key: "bound_tok_per_s", title: "bound" },
  { key: "gb_per_s", title: "GB/s" },
  { key: "mbu_percent", title: "MBU %" },
  { key: "mfu_percent", title: "MFU %" },
  { key: "tpot_ms", title: "TPOT ms" },
  { key: "gpu_ms", title: "GPU ms" },
  { key: "ttft_ms", title: "TTFT ms" },
  { key: "launches_per_step", title: "launches" },
  { key: "cpu_us_per_launch", title: "CPU µs each" },
  { key: "collective_ms_per_step", title: "collective ms" },
] as const;

/** A row a workload. `outputLength` is at least 2: the first token is prefill's. */
export async function benchDecode(
  args: EngineArgs,
  workloads: BatchWorkloads,
  events: LoadEvents = {},
): Promise<BenchReport> {
  return await benchBatches({ name: "decode", columns: COLUMNS, measure }, args, workloads, events);
}

async function measure(
  session: BenchSession,
  workload: BatchWorkload,
  { warmUp, repeats }: Repeats,
): Promise<MeasuredRow> {
  const runs: Run[] = [];
  for (let repeat = -warmUp; repeat < repeats; repeat++) {
    const run = await runOnce(session, workload);
    if (repeat >= 0) runs.push(run);
  }
  const { promptLength: length, batchSize } = workload;
  const step = { phase: "decode", length, batchSize } as const;
  const gpuMs = await timeStep(session.model.executor, step);
  const kernels = await profileStep(session.model.executor, step);
  return { row: { ...summarise(session, workload, runs), gpu_ms: gpuMs }, kernels };
}

async function runOnce({ model, prompts }: BenchSession, workload: BatchWorkload): Promise<Run> {
  const { batchSize, promptLength, outputLength } = workload;
  await model.resetStats();
  const batch = prompts.batch(batchSize, promptLength);
  const completions = await model.llm.generateAll(batch, greedy(outputLength));
  const firstMs = completions.map(({ timings }) => timings.firstTokenMs ?? 0);
  const lastMs = completions.map(({ timings }) => timings.lastTokenMs ?? 0);
  const decodeMs = Math.max(...lastMs) - Math.max(...firstMs);
  return {
    tokPerS: (1000 * batchSize * (outputLength - 1)) / decodeMs,
    ttftMs: median(completions.map(({ timings }) => timings.ttftMs ?? 0)),
    stats: await model.stats(),
  };
}

function summarise(session: BenchSession, workload: BatchWorkload, runs: readonly Run[]): Fields {
  const { config, layout } = session.model;
  const { batchSize, promptLength, outputLength } = workload;
  const rates = runs.map(({ tokPerS }) => tokPerS);
  const tokPerS = median(rates);
  const middle = runs.find((run) => run.tokPerS === tokPerS) ?? runs[0];
  const numSteps = outputLength - 1;
  const weightBytes = middle?.stats.bytesPerToken ?? 0; // a step reads all weights once
  const kvBytes =
    (batchSize * decodePositions(workload) * kvBytesPerPosition(config, layout.kvCacheDType)) /
    numSteps;
  const stepsPerS = tokPerS / batchSize;
  const gbPerS = ((weightBytes + kvBytes) * stepsPerS) / 1e9;
  const flopsPerToken = decodeFlops(config, workload) / numSteps;
  const tflops = (flopsPerToken * tokPerS) / 1e12;
  const boundMs = Math.max(
    (weightBytes + kvBytes) / (session.totalReadGBps * 1e6),
    (flopsPerToken * batchSize) / (session.totalTflops * 1e9),
  );
  return {
    batch_size: batchSize,
    prompt_len: promptLength,
    output_len: outputLength,
    repeats: runs.length,
    ...spread("tok_per_s", rates),
    bound_tok_per_s: (1000 * batchSize) / boundMs,
    weight_bytes_per_step: weightBytes,
    kv_bytes_per_step: kvBytes,
    gb_per_s: gbPerS,
    mbu_percent: (100 * gbPerS) / session.totalReadGBps,
    tflops,
    mfu_percent: (100 * tflops) / session.totalTflops,
    tpot_ms: 1000 / stepsPerS,
    ttft_ms: median(runs.map(({ ttftMs }) => ttftMs)),
    ...perStep(middle?.stats.ranks ?? []),
  };
}

/** Per step, of the rank with the most of it. */
function perStep(ranks: readonly RankStats[]): Fields {
  const most = (value: (rank: RankStats) => number): number =>
    Math.max(0, ...ranks.map((rank) => value(rank) / Math.max(rank.numSteps, 1)));
  const launches = most(({ numLaunches }) => numLaunches);
  const encodeMs = most((rank) => rank.encodeMs);
  const submitMs = most((rank) => rank.submitMs);
  return {
    launches_per_step: launches,
    submits_per_step: most(({ numSubmits }) => numSubmits),
    encode_ms_per_step: encodeMs,
    submit_ms_per_step: submitMs,
    cpu_us_per_launch: (1000 * (encodeMs + submitMs)) / Math.max(launches, 1),
    collective_ms_per_step: most((rank) => rank.collectiveMs),
    collective_bytes_per_step: most((rank) => rank.collectiveBytes),
  };
}
