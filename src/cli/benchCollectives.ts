/** `bench collectives`: every operation, algorithm and number of ranks, in nccl-tests' columns. */
import { writeFile } from "node:fs/promises";
import { type Command, Option } from "commander";
import {
  BENCH_ALGORITHMS,
  BENCH_MEMORIES,
  BENCH_OPS,
  BENCH_TRANSPORTS,
  type BenchOptions,
  type CollectiveRow,
  DEFAULT_BENCH_OPTIONS,
} from "../runtime/collectiveBench/benchPlan.ts";
import type { Breakdown } from "../runtime/collectiveBench/breakdown.ts";
import { UsageError } from "../common/errors.ts";
import type { CommandContext } from "./context.ts";
import { addJsonFlag, flag, type JsonFlag } from "./flags.ts";
import { ensureAdapter } from "./launcher/softwareGpu.ts";
import { formatTable } from "./table.ts";
import { listOf, oneOf, positiveNumber, type ValueParser, wholeNumbers } from "./values.ts";

type Choices = Omit<BenchOptions, "breakdown" | "devices" | "budgetMs" | "transports" | "memories">;

interface BenchCollectivesFlags extends Partial<Choices>, JsonFlag {
  readonly transport?: BenchOptions["transports"];
  readonly memory?: BenchOptions["memories"];
  readonly devices?: readonly number[];
  readonly budget?: number;
  readonly breakdown?: true;
  readonly plot?: string;
}

/** A world has a bit of a mask for each rank, and a thread. */
const MAX_RANKS = 32;

export function addBenchCollectives(bench: Command, context: CommandContext): void {
  const command = bench
    .command("collectives")
    .summary("time and bandwidth of every collective")
    .description(
      "Measures every collective by size, algorithm and number of ranks, in the columns of nccl-tests, with the bound beside each figure.",
    );
  addFlags(command);
  addJsonFlag(command, "only JSON on stdout: the last line is an array of rows");
  command.action(async (flags: BenchCollectivesFlags) => {
    const options = optionsOf(flags);
    if (options.breakdown || options.memories.includes("device")) await ensureAdapter();
    const { benchCollectives } = await import("../runtime/collectiveBench/benchCollectivesNode.ts");
    const isJson = flags.json === true;
    const { stop } = context;
    const printer = new RowPrinter(context, isJson);
    const report = await stop.guard(() => benchCollectives(options, printer, stop.signal));
    for (const breakdown of report.breakdowns) {
      context.print(isJson ? JSON.stringify({ breakdown }) : formatBreakdown(breakdown));
    }
    if (flags.plot !== undefined) await writePlot(flags.plot, report.rows);
    context.print(JSON.stringify(report.rows));
    const wrong = report.rows.reduce((sum, row) => sum + row.wrong, 0);
    if (wrong > 0) context.exitCode = 1;
  });
}

function addFlags(command: Command): void {
  const defaults = DEFAULT_BENCH_OPTIONS;
  const options = [
    flag("--ranks <list>", "ranks of each run (default: 2 to 8)", numRanks),
    flag("--sizes <list>", "bytes, also as 16K or 4M (default: 8 to 256M)", sizes),
    flag("--ops <list>", `of ${BENCH_OPS.join(", ")} (default: all)`, listOf(oneOf(BENCH_OPS))),
    flag(
      "--algorithms <list>",
      `of ${BENCH_ALGORITHMS.join(", ")} (default: all)`,
      listOf(oneOf(BENCH_ALGORITHMS)),
    ),
    flag(
      "--transport <list>",
      `of ${BENCH_TRANSPORTS.join(", ")} (default: ${defaults.transports.join()})`,
      listOf(oneOf(BENCH_TRANSPORTS)),
    ),
    flag(
      "--memory <list>",
      "host (typed arrays) or device (WebGPU buffers) (default: both)",
      listOf(oneOf(BENCH_MEMORIES)),
    ),
    flag(
      "--devices <list>",
      "devices of the ranks, in order and again from the first (default: all of the best kind)",
      wholeNumbers("device numbers", "0,1"),
    ),
    flag("--budget <ms>", `time of each figure (default: ${defaults.budgetMs})`, positiveNumber),
    new Option("--breakdown", "also the stages of the decode-sized all-reduce on devices"),
    new Option("--plot <file>", "busbw against size, as SVG"),
  ];
  for (const option of options) command.addOption(option.helpGroup("Measurement:"));
}

const numRanks: ValueParser<readonly number[]> = (text, name) => {
  const ranks = wholeNumbers("numbers of ranks", "2,4")(text, name);
  if (ranks.every((count) => count >= 2 && count <= MAX_RANKS)) return ranks;
  throw new UsageError({ what: name, expected: `numbers from 2 to ${MAX_RANKS}`, got: text });
};

const UNITS: Readonly<Record<string, number>> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

const sizes: ValueParser<readonly number[]> = (text, name) =>
  text.split(",").map((part) => {
    const [, digits, unit = ""] = /^(\d+)([KMG]?)$/i.exec(part.trim()) ?? [];
    const bytes = Number(digits) * (UNITS[unit.toUpperCase()] ?? Number.NaN);
    if (bytes >= 4 && bytes < 2 ** 32 && bytes % 4 === 0) return bytes;
    throw new UsageError({
      what: name,
      expected: "bytes between commas, multiples of 4 below 4G, as 16384,1M",
      got: JSON.stringify(part),
    });
  });

function optionsOf(flags: BenchCollectivesFlags): BenchOptions {
  const defaults = DEFAULT_BENCH_OPTIONS;
  return {
    ranks: flags.ranks ?? defaults.ranks,
    sizes: flags.sizes ?? defaults.sizes,
    ops: flags.ops ?? defaults.ops,
    algorithms: flags.algorithms ?? defaults.algorithms,
    transports: flags.transport ?? defaults.transports,
    memories: flags.memory ?? defaults.memories,
    devices: flags.devices ?? defaults.devices,
    budgetMs: flags.budget ?? defaults.budgetMs,
    breakdown: flags.breakdown ?? defaults.breakdown,
  };
}

const COLUMNS = [
  ["size", 10],
  ["count", 10],
  ["type", 5],
  ["redop", 6],
  ["time µs", 10],
  ["algbw", 8],
  ["busbw", 8],
  ["bound", 8],
  ["of bound", 9],
  ["#wrong", 7],
] as const;
const NAME_WIDTH = 33;

/** Rows as they come: a run takes minutes. GB/s; with --json only notes, on stderr. */
class RowPrinter {
  readonly #context: CommandContext;
  readonly #isJson: boolean;
  #hasHeading = false;

  constructor(context: CommandContext, isJson: boolean) {
    this.#context = context;
    this.#isJson = isJson;
  }

  readonly onWorld = (what: string): void => {
    this.#hasHeading = false;
    if (!this.#isJson) this.#context.print(`\n${what}`);
  };

  readonly onNote = (note: string): void => {
    this.#context.say(note);
  };

  readonly onRow = (row: CollectiveRow): void => {
    if (this.#isJson) return;
    const titles = COLUMNS.map(([title, width]) => title.padStart(width)).join("");
    if (!this.#hasHeading) this.#context.print("operation".padEnd(NAME_WIDTH) + titles);
    this.#hasHeading = true;
    this.#context.print(formatRow(row));
  };
}

export function formatRow(row: CollectiveRow): string {
  const { sizeBytes, count, type, redop, timeUs, algbwGBps, busbwGBps, boundGBps, wrong } = row;
  const share = boundGBps > 0 ? `${((100 * busbwGBps) / boundGBps).toFixed(1)} %` : "-";
  const cells = [
    ...[String(sizeBytes), String(count), type, redop, timeUs.toFixed(1)],
    ...[algbwGBps, busbwGBps, boundGBps].map((rate) => rate.toFixed(3)),
    ...[share, String(wrong)],
  ];
  const figures = cells.map((cell, at) => cell.padStart(COLUMNS[at]?.[1] ?? 0)).join("");
  return `${row.op} ${row.algorithm}`.padEnd(NAME_WIDTH) + figures;
}

export function formatBreakdown({ ranks, sizeBytes, rows }: Breakdown): string {
  const columns = [
    { title: "" },
    { title: "stage" },
    { title: "p50 µs", isFigure: true },
    { title: "p99 µs", isFigure: true },
  ];
  const cells = rows.map(({ what, stage, p50Us, p99Us }) => [
    ...[what, stage, p50Us.toFixed(1), p99Us.toFixed(1)],
  ]);
  const title = `all_reduce of ${sizeBytes} bytes over ${ranks} device ranks, by stage`;
  return `\n${title}\n${formatTable(columns, cells)}`;
}

async function writePlot(path: string, rows: readonly CollectiveRow[]): Promise<void> {
  const { plotCollectives } = await import("../runtime/collectiveBench/plot.ts");
  await writeFile(path, plotCollectives("collectives", rows));
}
