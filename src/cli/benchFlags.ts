/** What the benchmarks of one model have in common: flags of the workload and of the output. */
import type { Command, Option } from "commander";
import type { BatchWorkloads } from "../runtime/bench/batches.ts";
import type { BenchReport } from "../runtime/bench/report.ts";
import type { EngineArgs, LoadEvents } from "../runtime/engineArgs.ts";
import { formatReport, REPORT_FORMATS, type ReportFormat } from "./benchReport.ts";
import type { CommandContext } from "./context.ts";
import { addJsonFlag, addModelFlags, flag, type JsonFlag, type ModelFlags } from "./flags.ts";
import { ensureAdapter } from "./launcher/softwareGpu.ts";
import { showLoading } from "./loadProgress.ts";
import { engineArgs } from "./modelArgs.ts";
import { oneOf, type ValueParser, wholeNumber } from "./values.ts";

export interface OutputFlags extends JsonFlag {
  readonly output?: ReportFormat;
}

export interface BenchFlags extends ModelFlags, OutputFlags {
  readonly warmup: number;
  readonly repeats: number;
}

/** Flags of benchmarks of whole batches. */
export interface BatchFlags extends BenchFlags {
  readonly promptLen: readonly number[];
  readonly outputLen: number;
  readonly batchSize: readonly number[];
}

const count = wholeNumber({ min: 1 });

/** Several counts between commas, as `1,8,32`: a row of the report each. */
export const counts: ValueParser<readonly number[]> = (text, name) =>
  text.split(",").map((part) => count(part, name));

/** A flag of what is measured. */
export function addWorkload(command: Command, options: readonly Option[]): void {
  for (const option of options) command.addOption(option.helpGroup("Workload:"));
}

export const promptLenFlag = (defaultLength: number): Option =>
  flag("--input-len, --prompt-len <list>", "tokens of each prompt, a row each", counts).default([
    defaultLength,
  ]);

export const outputLenFlag = (defaultLength: number, min = 1): Option =>
  flag("--output-len <tokens>", "tokens to generate", wholeNumber({ min })).default(defaultLength);

export const batchSizeFlag = (): Option =>
  flag("--batch-size <list>", "sequences at once, a row each", counts).default([1]);

export function batchWorkloads(flags: BatchFlags): BatchWorkloads {
  const { promptLen: promptLengths, batchSize: batchSizes, outputLen: outputLength } = flags;
  return { promptLengths, batchSizes, outputLength, warmUp: flags.warmup, repeats: flags.repeats };
}

/** --warmup and --repeats, then the flags of the model and of the output. */
export function addRunFlags(command: Command, repeats: number): void {
  addWorkload(command, [
    flag("--warmup <n>", "runs before the measured ones", wholeNumber({ min: 0 })).default(1),
    flag("--repeats <n>", "measured runs: median and spread", count).default(repeats),
  ]);
  addModelFlags(command);
  addOutputFlags(command);
}

export function addOutputFlags(command: Command): void {
  const parse = oneOf(REPORT_FORMATS, { markdown: "md" });
  const option = flag(
    "-o, --output <format>",
    `${REPORT_FORMATS.join(", ")} (default: table)`,
    parse,
  );
  command.addOption(option.helpGroup("Output:"));
  addJsonFlag(command, "the same as --output json");
}

/** Loads what is missing, shows progress unless the output is for machines, and prints the report. */
export async function printBench(
  context: CommandContext,
  flags: ModelFlags & OutputFlags,
  measure: (args: EngineArgs, events: LoadEvents) => Promise<BenchReport>,
): Promise<void> {
  const format = flags.json === true ? "json" : (flags.output ?? "table");
  await ensureAdapter();
  const display = showLoading(context.stderr, format !== "table");
  const report = await measure(engineArgs(flags), display.events).finally(display.stop);
  context.print(formatReport(report, format));
}
