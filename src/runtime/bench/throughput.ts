/** Offline throughput: many requests at once through the scheduler, as `vllm bench throughput` takes it. */
import type { EngineArgs, LoadEvents } from "../engineArgs.ts";
import type { Completion } from "../request.ts";
import { greedy } from "./prompts.ts";
import type { BenchReport, Fields } from "./report.ts";
import { type BenchSession, type Repeats, sessionReport, withSession } from "./session.ts";
import { percentiles, spread } from "./spread.ts";
import { utilisation } from "./utilisation.ts";

export interface ThroughputWorkload extends Repeats {
  readonly numPrompts: number;
  readonly promptLength: number;
  readonly outputLength: number;
  /** Lengths are drawn from (1 - rangeRatio) x to (1 + rangeRatio) x the length; 0 to below 1. */
  readonly rangeRatio: number;
  /** Of the lengths. */
  readonly seed: number;
}

interface Lengths {
  readonly promptLength: number;
  readonly outputLength: number;
}

interface Run {
  readonly elapsedMs: number;
  readonly completions: readonly Completion[];
  readonly use: Fields;
}

const COLUMNS = [
  { key: "num_prompts", title: "requests" },
  { key: "max_num_seqs", title: "at once" },
  { key: "prompt_tokens", title: "prompt tokens" },
  { key: "completion_tokens", title: "completion tokens" },
  { key: "elapsed_s", title: "s" },
  { key: "requests_per_s", title: "requests/s" },
  { key: "output_tok_per_s", title: "output tok/s" },
  { key: "output_tok_per_s_min", title: "min" },
  { key: "output_tok_per_s_max", title: "max" },
  { key: "total_tok_per_s", title: "total tok/s" },
  { key: "tokens_per_step", title: "tokens/step" },
  { key: "mbu_percent", title: "MBU %" },
  { key: "mfu_percent", title: "MFU %" },
] as const;

/** All requests arrive at once; the scheduler batches them by `args.maxNumSeqs`. */
export async function benchThroughput(
  args: EngineArgs,
  workload: ThroughputWorkload,
  events: LoadEvents = {},
): Promise<BenchReport> {
  return await withSession(args, events, async (session) => {
    const row = await measure(session, workload, args.maxNumSeqs);
    return sessionReport("throughput", session, COLUMNS, [{ row }]);
  });
}

async function measure(
  session: BenchSession,
  workload: ThroughputWorkload,
  maxNumSeqs: number,
): Promise<Fields> {
  const lengths = drawLengths(workload);
  for (let i = 0; i < workload.warmUp; i++) {
    await runOnce(session, lengths.slice(0, maxNumSeqs)); // one full batch reaches every kernel
  }
  const runs: Run[] = [];
  for (let i = 0; i < workload.repeats; i++) runs.push(await runOnce(session, lengths));
  const sum = (value: (one: Lengths) => number): number =>
    lengths.reduce((total, one) => total + value(one), 0);
  const promptTokens = sum(({ promptLength }) => promptLength);
  const completionTokens = sum(({ outputLength }) => outputLength);
  const perS = (count: number): number[] => runs.map(({ elapsedMs }) => (1000 * count) / elapsedMs);
  const [first] = [...runs].sort((a, b) => a.elapsedMs - b.elapsedMs).slice(runs.length >> 1);
  const timings = first?.completions.map((completion) => completion.timings) ?? [];
  const numSteps = Number(first?.use["steps"] ?? 0);
  return {
    num_prompts: workload.numPrompts,
    max_num_seqs: maxNumSeqs,
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    range_ratio: workload.rangeRatio,
    repeats: runs.length,
    elapsed_s: (first?.elapsedMs ?? Number.NaN) / 1000,
    ...spread("requests_per_s", perS(workload.numPrompts)),
    ...spread("output_tok_per_s", perS(completionTokens)),
    ...spread("total_tok_per_s", perS(promptTokens + completionTokens)),
    tokens_per_step: (promptTokens + completionTokens) / numSteps,
    ...percentiles(
      "ttft_ms",
      timings.map(({ ttftMs }) => ttftMs ?? Number.NaN),
    ),
    ...first?.use,
  };
}

async function runOnce(session: BenchSession, lengths: readonly Lengths[]): Promise<Run> {
  const { model, prompts } = session;
  const batch = lengths.map((one) => ({ ...one, prompt: prompts.next(one.promptLength) }));
  await model.resetStats();
  const begin = performance.now();
  const completions = await Promise.all(
    batch.map(({ prompt, outputLength }) =>
      model.llm.generate(prompt, greedy(outputLength)).collect(),
    ),
  );
  const elapsedMs = performance.now() - begin;
  return { elapsedMs, completions, use: await utilisation(session, lengths, elapsedMs) };
}

/** Whole lengths of at least 1, the same for the same seed. */
export function drawLengths(workload: ThroughputWorkload): Lengths[] {
  let state = (workload.seed ^ 0x9e3779b9) >>> 0;
  const draw = (length: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const factor = 1 + workload.rangeRatio * (state / 2 ** 31 - 1);
    return Math.max(1, Math.round(length * factor));
  };
  return Array.from({ length: workload.numPrompts }, () => ({
    promptLength: draw(workload.promptLength),
    outputLength: draw(workload.outputLength),
  }));
}
