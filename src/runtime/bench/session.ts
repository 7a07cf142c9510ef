/** A model loaded for measuring, with the ceilings of its adapter. */
import { type Ceilings, measureCeilings, peakTflops } from "./ceilings.ts";
import type { EngineArgs, LoadEvents } from "../engineArgs.ts";
import { listDevices } from "../devices.ts";
import { type LoadedModel, loadModel } from "../loadModel.ts";
import type { KernelTime } from "../profileStep.ts";
import {
  type BenchReport,
  type Fields,
  layoutSettings,
  numDevices,
  type ReportColumn,
} from "./report.ts";
import { Prompts } from "./prompts.ts";
import { versions } from "./versionsNode.ts";

/** How often each workload runs. */
export interface Repeats {
  /** Runs before the measured ones. */
  readonly warmUp: number;
  readonly repeats: number;
}

export interface BenchSession {
  readonly model: LoadedModel;
  readonly prompts: Prompts;
  readonly ceilings: Ceilings;
  readonly settings: Fields;
  /** Read bandwidth of all devices together. */
  readonly totalReadGBps: number;
  /** Operations of all devices together, 1e12 a second. */
  readonly totalTflops: number;
}

/** Loads the model, measures its adapter, and shuts down after `work`. */
export async function withSession<T>(
  args: EngineArgs,
  events: LoadEvents,
  work: (session: BenchSession) => Promise<T>,
): Promise<T> {
  const begin = performance.now();
  const model = await loadModel(args, events);
  const loadMs = performance.now() - begin;
  try {
    const { layout } = model;
    const deviceIndex = layout.ranks[0]?.deviceIndex ?? 0;
    const adapter = (await listDevices())[deviceIndex];
    const settings = layoutSettings(args, layout, adapter, versions());
    const ceilings = await measureCeilings(deviceIndex, args.disableRobustness);
    const totalReadGBps = ceilings.readGBps * numDevices(layout);
    return await work({
      model,
      prompts: new Prompts(model.config.vocabSize),
      ceilings,
      settings: { ...settings, load_ms: loadMs },
      totalReadGBps,
      totalTflops: peakTflops(ceilings) * numDevices(layout),
    });
  } finally {
    await model.shutdown();
  }
}

/** A workload's figures, and the GPU time of one of its steps. */
export interface MeasuredRow {
  readonly row: Fields;
  readonly kernels?: readonly KernelTime[];
}

/** The report of rows that a session measured. */
export function sessionReport(
  benchmark: string,
  { model, settings, ceilings }: BenchSession,
  columns: readonly ReportColumn[],
  rows: readonly MeasuredRow[],
): BenchReport {
  return {
    benchmark,
    model: model.layout.model,
    settings,
    ceilings,
    columns,
    rows: rows.map(({ row }) => row),
    kernels: rows.map(({ kernels = [] }) => kernels),
    layout: model.layout,
  };
}
