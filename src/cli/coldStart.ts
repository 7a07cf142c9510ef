/** The way to the first token of a cold process, stage by stage. */
import type { LoadTimings } from "../runtime/loadTimings.ts";
import type { RequestTimings } from "../runtime/request.ts";
import { formatFigure } from "./table.ts";

/** Milliseconds of each stage, in order, and of all since the process began. */
export interface ColdStart {
  readonly totalMs: number;
  /** By what a user sees; `rest` is what no stage accounts for. */
  readonly stages: Readonly<Record<ColdStage, number>>;
  /** Read and uploaded by all ranks together. */
  readonly weightGBps: number;
}

type ColdStage =
  "process" | "files" | "adapters" | "devices" | "weights" | "pipelines" | "firstStep" | "rest";

const LABELS: Readonly<Record<ColdStage, string>> = {
  process: "Node and modules",
  files: "config and tokenizer",
  adapters: "adapters",
  devices: "devices",
  weights: "weights",
  pipelines: "pipelines",
  firstStep: "first step",
  rest: "rest",
};

/** Undefined where no token came. Times are of the main thread, whose clock starts with the process. */
export function coldStart(
  load: LoadTimings,
  { ttftMs, firstTokenMs }: Pick<RequestTimings, "ttftMs" | "firstTokenMs">,
): ColdStart | undefined {
  if (ttftMs === null || firstTokenMs === null) return undefined;
  const stages = {
    process: load.beginMs,
    files: load.filesMs,
    adapters: load.adaptersMs,
    devices: load.devicesMs,
    weights: load.weightsMs,
    pipelines: load.pipelinesMs,
    firstStep: ttftMs,
  };
  const known = Object.values(stages).reduce((sum, ms) => sum + ms, 0);
  const rest = Math.max(0, firstTokenMs - known);
  const weightGBps = load.weightBytes / 1e6 / Math.max(load.weightsMs, 1e-3);
  return { totalMs: firstTokenMs, stages: { ...stages, rest }, weightGBps };
}

/** One line; stages under half a percent of the whole are left out. */
export function describeColdStart({ totalMs, stages, weightGBps }: ColdStart): string {
  const parts = (Object.keys(LABELS) as ColdStage[])
    .filter((stage) => stages[stage] >= totalMs / 200)
    .map((stage) => {
      const rate = stage === "weights" ? ` (${formatFigure(weightGBps)} GB/s)` : "";
      return `${LABELS[stage]} ${formatFigure(stages[stage])}${rate}`;
    });
  return `first token ${formatFigure(totalMs)} ms after the process's start: ${parts.join(", ")}`;
}

/** As --json has it. */
export function coldStartAsJson(cold: ColdStart | undefined): Record<string, number> | null {
  if (cold === undefined) return null;
  const { totalMs, stages, weightGBps } = cold;
  return {
    total_ms: totalMs,
    process_ms: stages.process,
    files_ms: stages.files,
    adapters_ms: stages.adapters,
    devices_ms: stages.devices,
    weights_ms: stages.weights,
    pipelines_ms: stages.pipelines,
    first_step_ms: stages.firstStep,
    rest_ms: stages.rest,
    weight_gb_per_s: weightGBps,
  };
}
