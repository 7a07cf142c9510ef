/** `bench decode`: tokens a second after the first. */
import type { Command } from "commander";
import type { DecodeReport } from "../runtime/benchDecode.ts";
import type { CommandContext } from "./context.ts";
import { addJsonFlag, addModelFlags, flag, type JsonFlag, type ModelFlags } from "./flags.ts";
import { layoutAsJson } from "./generateReport.ts";
import { formatKernels, kernelsAsJson } from "./kernelTable.ts";
import { ensureAdapter } from "./launcher/softwareGpu.ts";
import { showLoading } from "./loadProgress.ts";
import { engineArgs } from "./modelArgs.ts";
import { formatFigure, formatTable } from "./table.ts";
import { wholeNumber } from "./values.ts";

interface BenchDecodeFlags extends ModelFlags, JsonFlag {
  readonly promptLen: number;
  readonly outputLen: number;
  readonly repeats: number;
  readonly batchSize: number;
}

export function addBenchDecode(bench: Command, context: CommandContext): void {
  const command = bench
    .command("decode")
    .summary("tokens a second after the first")
    .description("Measures decode: tok/s beside GB/s, launches and collectives a token.");
  const count = wholeNumber({ min: 1 });
  for (const option of [
    flag("--prompt-len <tokens>", "tokens of each prompt", count).default(32),
    flag("--output-len <tokens>", "tokens to generate", wholeNumber({ min: 2 })).default(64),
    flag("--batch-size <n>", "sequences at once", count).default(1),
    flag("--repeats <n>", "runs, of which the median counts", count).default(3),
  ]) {
    command.addOption(option.helpGroup("Workload:"));
  }
  addModelFlags(command);
  addJsonFlag(command, "only the line of JSON on stdout");
  command.action(async (flags: BenchDecodeFlags) => {
    const { promptLen, outputLen, repeats, batchSize } = flags;
    await ensureAdapter();
    const { benchDecode } = await import("../runtime/benchDecode.ts");
    const display = showLoading(context.stderr, flags.json === true);
    const workload = { promptLength: promptLen, numTokens: outputLen, repeats, batchSize };
    const report = await benchDecode(engineArgs(flags), workload, display.events).finally(
      display.stop,
    );
    if (flags.json !== true) context.print(formatDecode(report));
    context.print(JSON.stringify(decodeAsJson(report)));
  });
}

/** Each figure beside its bound or its parts, then the kernels where the adapter can time them. */
export function formatDecode(report: DecodeReport): string {
  const { workload, perStep, kernels } = report;
  const { promptLength, numTokens, batchSize, repeats } = workload;
  const figure = formatFigure;
  const rows = [
    ["workload", `${batchSize} x ${promptLength} + ${numTokens} tokens, median of ${repeats}`],
    [
      "decode",
      `${figure(report.tokPerS)} tok/s in total (${figure(report.tokPerSMin)} to ${figure(report.tokPerSMax)})`,
    ],
    [
      "weights",
      `${figure(report.weightGBps)} GB/s, ${figure(report.mbuPercent)} % of ${figure(report.deviceGBps)} GB/s a device`,
    ],
    ["TTFT", `${figure(report.ttftMs)} ms`],
    [
      "launches",
      `${figure(perStep.launches)} a step, ${figure(perStep.cpuUsPerLaunch)} µs CPU each (encode ${figure(perStep.encodeMs)} ms, submit ${figure(perStep.submitMs)} ms a step)`,
    ],
    [
      "collectives",
      `${figure(perStep.collectiveMs)} ms and ${figure(perStep.collectiveBytes)} bytes a rank and step`,
    ],
    ["load", `${figure(report.loadMs)} ms`],
  ];
  const table = formatTable([{ title: "decode" }, { title: report.model }], rows);
  return kernels.length === 0 ? table : `${table}\n\n${formatKernels(kernels)}`;
}

function decodeAsJson(report: DecodeReport): Record<string, unknown> {
  const { workload, perStep } = report;
  return {
    benchmark: "decode",
    model: report.model,
    prompt_len: workload.promptLength,
    output_len: workload.numTokens,
    batch_size: workload.batchSize,
    repeats: workload.repeats,
    tok_per_s: report.tokPerS,
    tok_per_s_min: report.tokPerSMin,
    tok_per_s_max: report.tokPerSMax,
    ttft_ms: report.ttftMs,
    weight_gb_per_s: report.weightGBps,
    device_gb_per_s: report.deviceGBps,
    mbu_percent: report.mbuPercent,
    load_ms: report.loadMs,
    per_step: {
      launches: perStep.launches,
      encode_ms: perStep.encodeMs,
      submit_ms: perStep.submitMs,
      cpu_us_per_launch: perStep.cpuUsPerLaunch,
      collective_ms: perStep.collectiveMs,
      collective_bytes: perStep.collectiveBytes,
    },
    kernels: kernelsAsJson(report.kernels),
    layout: layoutAsJson(report.layout),
  };
}
