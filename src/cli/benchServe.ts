/** `bench serve`: latency and throughput of a server under load. */
import { readFile, writeFile } from "node:fs/promises";
import { type Command, Option } from "commander";
import { UsageError } from "../common/errors.ts";
import type { GoodputLimits, ServeSummary, Spread } from "../server/bench/summary.ts";
import type { BenchTarget } from "../server/bench/client.ts";
import type { BenchRequest } from "../server/bench/workload.ts";
import type { CommandContext } from "./context.ts";
import { addJsonFlag, addModelFlags, flag, type JsonFlag, type ModelFlags } from "./flags.ts";
import { ensureAdapter } from "./launcher/softwareGpu.ts";
import { showLoading } from "./loadProgress.ts";
import { engineArgs } from "./modelArgs.ts";
import { describeBubble, serveOptions } from "./serve.ts";
import { formatFigure, formatTable } from "./table.ts";
import { positiveNumber, type ValueParser, wholeNumber } from "./values.ts";

interface BenchServeFlags extends ModelFlags, JsonFlag {
  readonly baseUrl?: string;
  readonly apiKey?: string;
  readonly servedModelName?: string;
  readonly dataParallelSize?: number;
  readonly numPrompts: number;
  readonly inputLen: number;
  readonly outputLen: number;
  readonly prefixLen: number;
  readonly dataset?: string;
  readonly requestRate: readonly number[];
  readonly maxConcurrency?: number;
  readonly goodput?: GoodputLimits;
  readonly seed: number;
  readonly plot?: string;
}

/** Ids that every model has: nothing in a dense model's speed depends on which. */
const VOCAB_SIZE = 1000;

export function addBenchServe(bench: Command, context: CommandContext): void {
  const command = bench
    .command("serve")
    .summary("latency and throughput of a server under load")
    .description(
      "Sends Poisson arrivals to a server, its own one or that of --base-url: TTFT, TPOT, ITL, throughput, goodput.",
    );
  addFlags(command);
  addModelFlags(command);
  addJsonFlag(command, "only the line of JSON on stdout");
  command.action(async (flags: BenchServeFlags) => {
    const requests = await readRequests(flags);
    const { benchServe } = await import("../server/bench/benchServe.ts");
    await withTarget(flags, context, async (target) => {
      const { requestRate: requestRates, goodput = {}, seed } = flags;
      const maxConcurrency = flags.maxConcurrency ?? requests.length;
      const load = { requestRates, goodput, seed, maxConcurrency };
      const summaries = await benchServe({ target, requests, ...load }, ({ requestRate }) => {
        context.say(`request rate ${requestRate}: done`);
      });
      if (flags.json !== true) context.print(formatSummaries(summaries));
      if (flags.plot !== undefined) await writePlot(flags.plot, target.model, summaries);
      context.print(JSON.stringify(benchmarkAsJson(flags, target.model, summaries)));
    });
  });
}

function addFlags(command: Command): void {
  const count = wholeNumber({ min: 1 });
  const options = [
    new Option(
      "--base-url <url>",
      "a running server (default: one of its own, by the flags below)",
    ),
    new Option("--api-key <key>", "that server's key"),
    new Option("--served-model-name <name>", "that server's name of the model"),
    flag("--dp, --data-parallel-size <n>", "replicas of its own server (default: 1)", count),
    flag("--num-prompts <n>", "requests of each run", count).default(64),
    flag("--input-len <tokens>", "tokens of each prompt, at random", count).default(128),
    flag("--output-len <tokens>", "tokens to generate", count).default(64),
    flag(
      "--prefix-len <tokens>",
      "of them the same in all prompts",
      wholeNumber({ min: 0 }),
    ).default(0),
    new Option(
      "--dataset <file>",
      'prompts in place of random ones: lines, or JSON lines with "prompt"',
    ),
    flag(
      "--request-rate <list>",
      "requests a second of each run; inf for all at once",
      rates,
    ).default([Infinity], "inf"),
    flag("--max-concurrency <n>", "requests under way at most (default: all)", count),
    flag("--goodput <limits>", "what counts as good, in ms, as ttft:500,tpot:50", limits),
    flag("--seed <n>", "of prompts and arrivals", wholeNumber({ min: 0 })).default(0),
    new Option("--plot <file>", "latency against load, as SVG"),
  ];
  for (const option of options) command.addOption(option.helpGroup("Load:"));
}

const rates: ValueParser<readonly number[]> = (text, name) =>
  text.split(",").map((part) => (part === "inf" ? Infinity : positiveNumber(part, name)));

const limits: ValueParser<GoodputLimits> = (text, name) => {
  const pairs = text.split(",").map((part) => part.split(":"));
  const isKnown = ([key, value]: readonly string[]): boolean =>
    ["ttft", "tpot", "e2el"].includes(key ?? "") && value !== undefined;
  if (pairs.every(isKnown)) {
    return Object.fromEntries(
      pairs.map(([key = "", value = ""]) => [key, positiveNumber(value, name)]),
    );
  }
  throw new UsageError({
    what: name,
    expected: "ttft, tpot or e2el with ms, as ttft:500",
    got: text,
  });
};

async function readRequests(flags: BenchServeFlags): Promise<BenchRequest[]> {
  const { datasetRequests, randomRequests } = await import("../server/bench/workload.ts");
  const { numPrompts, inputLen, outputLen, prefixLen, seed, dataset } = flags;
  if (dataset === undefined) {
    const lengths = { inputLength: inputLen, outputLength: outputLen, prefixLength: prefixLen };
    return randomRequests({ numPrompts, ...lengths, vocabSize: VOCAB_SIZE, seed });
  }
  const text = await readFile(dataset, "utf8").catch(() => {
    throw new UsageError({ what: "--dataset", expected: "a readable file", got: dataset });
  });
  return datasetRequests(text, numPrompts, outputLen);
}

/** The given server, or one of its own on a free port that ends with the benchmark. */
async function withTarget(
  flags: BenchServeFlags,
  context: CommandContext,
  use: (target: BenchTarget) => Promise<void>,
): Promise<void> {
  const { baseUrl, apiKey } = flags;
  const args = { ...engineArgs(flags), maxNumSeqs: flags.maxNumSeqs ?? 32 };
  if (baseUrl !== undefined) {
    const url = baseUrl.replace(/\/(v1\/?)?$/, "");
    await use({ url, apiKey, model: flags.servedModelName ?? "" });
    return;
  }
  const own = {
    ...{
      host: "127.0.0.1",
      port: 0,
      maxQueue: 1_000_000,
      maxRequestBytes: 64 << 20,
      drainTimeout: 0,
    },
    ...(flags.dataParallelSize === undefined ? {} : { dataParallelSize: flags.dataParallelSize }),
  };
  await ensureAdapter();
  const { startServer } = await import("../server/server.ts");
  const display = showLoading(context.stderr, flags.json === true);
  const options = { ...serveOptions(own, args.model), apiKeys: [] };
  const server = await startServer(args, options, display.events).finally(display.stop);
  await context.stop.guard(async () => {
    try {
      await use({ url: server.url, apiKey: undefined, model: options.servedModelNames[0] });
      describeBubble(server, args.ppSize, context);
    } finally {
      await server.stop();
    }
  });
}

function benchmarkAsJson(
  flags: BenchServeFlags,
  model: string,
  summaries: readonly ServeSummary[],
): object {
  return {
    benchmark: "serve",
    model,
    num_prompts: flags.numPrompts,
    input_len: flags.inputLen,
    output_len: flags.outputLen,
    prefix_len: flags.prefixLen,
    max_concurrency: flags.maxConcurrency ?? null,
    seed: flags.seed,
    runs: summaries.map((run) => ({
      request_rate: Number.isFinite(run.requestRate) ? run.requestRate : "inf",
      num_completed: run.numCompleted,
      num_failed: run.numFailed,
      duration_s: run.durationS,
      num_prompt_tokens: run.numPromptTokens,
      num_output_tokens: run.numOutputTokens,
      requests_per_s: run.requestsPerS,
      output_tok_per_s: run.outputTokPerS,
      total_tok_per_s: run.totalTokPerS,
      goodput_per_s: run.goodputPerS,
      ttft_ms: run.ttftMs,
      tpot_ms: run.tpotMs,
      itl_ms: run.itlMs,
      e2el_ms: run.e2elMs,
    })),
  };
}

/** A row for each rate and latency. */
export function formatSummaries(summaries: readonly ServeSummary[]): string {
  const columns = ["rate/s", "done", "failed", "req/s", "output tok/s", "total tok/s", "goodput/s"];
  const loads = summaries.map((run) => [
    rateText(run),
    ...[run.numCompleted, run.numFailed].map(String),
    ...[run.requestsPerS, run.outputTokPerS, run.totalTokPerS].map(formatFigure),
    run.goodputPerS === null ? "-" : formatFigure(run.goodputPerS),
  ]);
  const latencies = summaries.flatMap((run) => [
    latencyRow(run, "TTFT", run.ttftMs),
    latencyRow(run, "TPOT", run.tpotMs),
    latencyRow(run, "ITL", run.itlMs),
    latencyRow(run, "E2EL", run.e2elMs),
  ]);
  const figures = (titles: readonly string[]): { title: string; isFigure: true }[] =>
    titles.map((title) => ({ title, isFigure: true }));
  const errors = summaries.flatMap(({ firstError }) =>
    firstError === null ? [] : [`first error: ${firstError}`],
  );
  const titles = ["rate/s", "ms", "mean", "p50", "p90", "p99"];
  const tables = [formatTable(figures(columns), loads), formatTable(figures(titles), latencies)];
  return [tables.join("\n\n"), ...errors].join("\n");
}

function latencyRow({ requestRate }: ServeSummary, name: string, spread: Spread): string[] {
  const { mean, p50, p90, p99 } = spread;
  return [rateText({ requestRate }), name, ...[mean, p50, p90, p99].map(formatFigure)];
}

async function writePlot(
  path: string,
  model: string,
  summaries: readonly ServeSummary[],
): Promise<void> {
  const { plotLatency } = await import("../server/bench/plot.ts");
  await writeFile(path, plotLatency(`${model}: latency against load`, summaries));
}

function rateText({ requestRate }: Pick<ServeSummary, "requestRate">): string {
  return Number.isFinite(requestRate) ? String(requestRate) : "inf";
}
