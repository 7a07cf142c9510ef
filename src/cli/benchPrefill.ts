/** `bench prefill`: prompt tokens a second up to the first token. */
import type { Command } from "commander";
import type { PrefillReport } from "../runtime/benchPrefill.ts";
import type { CommandContext } from "./context.ts";
import { addJsonFlag, addModelFlags, flag, type JsonFlag, type ModelFlags } from "./flags.ts";
import { layoutAsJson } from "./generateReport.ts";
import { formatKernels, kernelsAsJson } from "./kernelTable.ts";
import { ensureAdapter } from "./launcher/softwareGpu.ts";
import { showLoading } from "./loadProgress.ts";
import { engineArgs } from "./modelArgs.ts";
import { formatFigure, formatTable } from "./table.ts";
import { wholeNumber } from "./values.ts";

interface BenchPrefillFlags extends ModelFlags, JsonFlag {
  readonly promptLen: number;
  readonly repeats: number;
}

export function addBenchPrefill(bench: Command, context: CommandContext): void {
  const command = bench
    .command("prefill")
    .summary("prompt tokens a second")
    .description("Measures prefill: a whole prompt in one step, beside its operations.");
  const count = wholeNumber({ min: 1 });
  for (const option of [
    flag("--prompt-len <tokens>", "tokens of the prompt", count).default(512),
    flag("--repeats <n>", "runs, of which the median counts", count).default(3),
  ]) {
    command.addOption(option.helpGroup("Workload:"));
  }
  addModelFlags(command);
  addJsonFlag(command, "only the line of JSON on stdout");
  command.action(async (flags: BenchPrefillFlags) => {
    const { promptLen: promptLength, repeats } = flags;
    await ensureAdapter();
    const { benchPrefill } = await import("../runtime/benchPrefill.ts");
    const display = showLoading(context.stderr, flags.json === true);
    const workload = { promptLength, repeats };
    const report = await benchPrefill(engineArgs(flags), workload, display.events).finally(
      display.stop,
    );
    if (flags.json !== true) context.print(formatPrefill(report));
    context.print(JSON.stringify(prefillAsJson(report)));
  });
}

function formatPrefill(report: PrefillReport): string {
  const { workload, kernels } = report;
  const figure = formatFigure;
  const rows = [
    ["workload", `${workload.promptLength} tokens, median of ${workload.repeats}`],
    [
      "prefill",
      `${figure(report.tokPerS)} tok/s (${figure(report.tokPerSMin)} to ${figure(report.tokPerSMax)})`,
    ],
    ["TTFT", `${figure(report.ttftMs)} ms`],
    ["operations", `${figure(report.tflops)} TFLOP/s in linear layers and attention`],
  ];
  const table = formatTable([{ title: "prefill" }, { title: report.model }], rows);
  return kernels.length === 0 ? table : `${table}\n\n${formatKernels(kernels)}`;
}

function prefillAsJson(report: PrefillReport): Record<string, unknown> {
  return {
    benchmark: "prefill",
    model: report.model,
    prompt_len: report.workload.promptLength,
    repeats: report.workload.repeats,
    tok_per_s: report.tokPerS,
    tok_per_s_min: report.tokPerSMin,
    tok_per_s_max: report.tokPerSMax,
    ttft_ms: report.ttftMs,
    tflops: report.tflops,
    kernels: kernelsAsJson(report.kernels),
    layout: layoutAsJson(report.layout),
  };
}
