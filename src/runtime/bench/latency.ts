/** Latency of one batch from its arrival to its last token, as `vllm bench latency` takes it. */
import type { EngineArgs, LoadEvents } from "../engineArgs.ts";
import { type BatchWorkload, type BatchWorkloads, benchBatches } from "./batches.ts";
import { greedy } from "./prompts.ts";
import type { BenchReport, Fields } from "./report.ts";
import type { BenchSession, MeasuredRow, Repeats } from "./session.ts";
import { percentiles } from "./spread.ts";
import { utilisation } from "./utilisation.ts";

interface Times {
  readonly latencyMs: number[];
  readonly ttftMs: number[];
  readonly tpotMs: number[];
}

const COLUMNS = [
  { key: "batch_size", title: "batch" },
  { key: "prompt_len", title: "prompt" },
  { key: "output_len", title: "output" },
  { key: "latency_ms_mean", title: "latency ms" },
  { key: "latency_ms_p50", title: "p50" },
  { key: "latency_ms_p90", title: "p90" },
  { key: "latency_ms_p99", title: "p99" },
  { key: "ttft_ms_p50", title: "TTFT p50" },
  { key: "ttft_ms_p99", title: "p99" },
  { key: "tpot_ms_p50", title: "TPOT p50" },
  { key: "tpot_ms_p99", title: "p99" },
  { key: "mbu_percent", title: "MBU %" },
  { key: "mfu_percent", title: "MFU %" },
] as const;

/** A row a workload. */
export async function benchLatency(
  args: EngineArgs,
  workloads: BatchWorkloads,
  events: LoadEvents = {},
): Promise<BenchReport> {
  return await benchBatches(
    { name: "latency", columns: COLUMNS, measure },
    args,
    workloads,
    events,
  );
}

async function measure(
  session: BenchSession,
  workload: BatchWorkload,
  { warmUp, repeats }: Repeats,
): Promise<MeasuredRow> {
  const times: Times = { latencyMs: [], ttftMs: [], tpotMs: [] };
  for (let i = 0; i < warmUp; i++) await runOnce(session, workload);
  await session.model.resetStats();
  for (let i = 0; i < repeats; i++) {
    const { latencyMs, ttftMs, tpotMs } = await runOnce(session, workload);
    times.latencyMs.push(...latencyMs);
    times.ttftMs.push(...ttftMs);
    times.tpotMs.push(...tpotMs);
  }
  const { batchSize, promptLength, outputLength } = workload;
  const sequences = Array.from({ length: batchSize * repeats }, () => workload);
  const elapsedMs = times.latencyMs.reduce((sum, ms) => sum + ms, 0);
  const row: Fields = {
    batch_size: batchSize,
    prompt_len: promptLength,
    output_len: outputLength,
    repeats,
    ...percentiles("latency_ms", times.latencyMs),
    ...percentiles("ttft_ms", times.ttftMs),
    ...(outputLength > 1 ? percentiles("tpot_ms", times.tpotMs) : {}),
    ...(await utilisation(session, sequences, elapsedMs)),
  };
  return { row };
}

/** One latency a batch; TTFT and TPOT of each of its sequences. */
async function runOnce({ model, prompts }: BenchSession, workload: BatchWorkload): Promise<Times> {
  const batch = prompts.batch(workload.batchSize, workload.promptLength);
  const begin = performance.now();
  const completions = await model.llm.generateAll(batch, greedy(workload.outputLength));
  const latencyMs = performance.now() - begin;
  const timings = completions.map((completion) => completion.timings);
  return {
    latencyMs: [latencyMs],
    ttftMs: timings.map(({ ttftMs }) => ttftMs ?? Number.NaN),
    tpotMs: timings.map(({ tpotMs }) => tpotMs ?? Number.NaN),
  };
}
