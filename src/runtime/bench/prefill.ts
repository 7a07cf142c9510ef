/** Prefill speed: prompt tokens a second up to the first token, beside what arithmetic and reads allow. */
import type { EngineArgs, LoadEvents } from "../engineArgs.ts";
import { profileStep, timeStep } from "../profileStep.ts";
import { prefillFlops } from "./bounds.ts";
import { greedy } from "./prompts.ts";
import type { BenchReport, Fields } from "./report.ts";
import {
  type BenchSession,
  type MeasuredRow,
  type Repeats,
  sessionReport,
  withSession,
} from "./session.ts";
import { spread } from "./spread.ts";

/** A row for each prompt length. */
export interface PrefillWorkloads extends Repeats {
  readonly promptLengths: readonly number[];
}

const COLUMNS = [
  { key: "prompt_len", title: "prompt" },
  { key: "tok_per_s", title: "tok/s" },
  { key: "tok_per_s_min", title: "min" },
  { key: "tok_per_s_max", title: "max" },
  { key: "bound_tok_per_s", title: "bound" },
  { key: "tflops", title: "TFLOP/s" },
  { key: "mfu_percent", title: "MFU %" },
  { key: "mbu_percent", title: "MBU %" },
  { key: "ttft_ms", title: "TTFT ms" },
  { key: "gpu_ms", title: "GPU ms" },
] as const;

/** Loads the model once; each prompt runs in a single step unless maxNumBatchedTokens says otherwise. */
export async function benchPrefill(
  args: EngineArgs,
  workloads: PrefillWorkloads,
  events: LoadEvents = {},
): Promise<BenchReport> {
  const longest = Math.max(...workloads.promptLengths);
  const maxNumBatchedTokens = args.maxNumBatchedTokens ?? Math.max(longest, args.maxNumSeqs);
  return await withSession({ ...args, maxNumBatchedTokens }, events, async (session) => {
    const rows: MeasuredRow[] = [];
    for (const promptLength of workloads.promptLengths) {
      rows.push(await measure(session, promptLength, workloads, maxNumBatchedTokens));
    }
    return sessionReport("prefill", session, COLUMNS, rows);
  });
}

async function measure(
  session: BenchSession,
  promptLength: number,
  { warmUp, repeats }: Repeats,
  maxNumBatchedTokens: number,
): Promise<MeasuredRow> {
  const { llm, executor } = session.model;
  const times: number[] = [];
  for (let repeat = -warmUp; repeat < repeats; repeat++) {
    const prompt = session.prompts.next(promptLength);
    const { timings } = await llm.generate(prompt, greedy(1)).collect();
    if (repeat >= 0) times.push(timings.ttftMs ?? Number.NaN);
  }
  const length = Math.min(promptLength, maxNumBatchedTokens);
  const step = { phase: "prefill", length, batchSize: 1 } as const;
  const gpuMs = await timeStep(executor, step);
  const kernels = await profileStep(executor, step);
  const numSteps = Math.ceil(promptLength / maxNumBatchedTokens);
  const row = await summarise(session, promptLength, times, numSteps);
  return { row: { ...row, gpu_ms: gpuMs }, kernels };
}

async function summarise(
  session: BenchSession,
  promptLength: number,
  times: readonly number[],
  numSteps: number,
): Promise<Fields> {
  const { model, totalReadGBps, totalTflops } = session;
  const { bytesPerToken } = await model.stats();
  const rates = times.map((ms) => (1000 * promptLength) / ms);
  const speed = spread("tok_per_s", rates);
  const ttft = spread("ttft_ms", times);
  const ms = Number(ttft["ttft_ms"]);
  const tflops = prefillFlops(model.config, promptLength) / (ms * 1e9);
  const gbPerS = (numSteps * bytesPerToken) / (ms * 1e6);
  const boundMs = Math.max(
    prefillFlops(model.config, promptLength) / (totalTflops * 1e9),
    (numSteps * bytesPerToken) / (totalReadGBps * 1e6),
  );
  return {
    prompt_len: promptLength,
    repeats: times.length,
    steps: numSteps,
    ...speed,
    bound_tok_per_s: (1000 * promptLength) / boundMs,
    tflops,
    mfu_percent: (100 * tflops) / totalTflops,
    mbu_percent: (100 * gbPerS) / totalReadGBps,
    ...ttft,
  };
}
