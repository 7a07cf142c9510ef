/** Where the time of a load goes, stage by stage; ranks load at once, so the slowest counts. */
import type { RankReport } from "./rankSpec.ts";

/** Milliseconds of the host's clock. */
export interface LoadTimings {
  /** When the load began, on the main thread's `performance.now()`: 0 is the process's start. */
  readonly beginMs: number;
  /** Config, weight headers, tokenizer. */
  readonly filesMs: number;
  /** Listing the adapters. */
  readonly adaptersMs: number;
  /** Starting threads and opening devices. */
  readonly devicesMs: number;
  /** Reading and uploading weights. */
  readonly weightsMs: number;
  /** Of all ranks together. */
  readonly weightBytes: number;
  /** KV cache, recording, and compiling until every pipeline has run once. */
  readonly pipelinesMs: number;
}

/** The stages that ranks report. */
export function rankTimings(executor: {
  readonly reports: readonly Pick<RankReport, "weightsMs" | "weightBytes">[];
  readonly openMs: number;
  readonly startMs: number;
}): Pick<LoadTimings, "devicesMs" | "weightsMs" | "weightBytes" | "pipelinesMs"> {
  const { reports, openMs, startMs } = executor;
  const weightsMs = Math.max(0, ...reports.map((report) => report.weightsMs));
  const weightBytes = reports.reduce((sum, report) => sum + report.weightBytes, 0);
  return { devicesMs: openMs - weightsMs, weightsMs, weightBytes, pipelinesMs: startMs };
}
