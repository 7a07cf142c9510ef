/** Workloads of whole batches: prompts of one length, started together, of which each generates the same. */
import type { EngineArgs, LoadEvents } from "../engineArgs.ts";
import type { BenchReport, ReportColumn } from "./report.ts";
import {
  type BenchSession,
  type MeasuredRow,
  type Repeats,
  sessionReport,
  withSession,
} from "./session.ts";

/** A row for each batch size and prompt length. */
export interface BatchWorkloads extends Repeats {
  readonly promptLengths: readonly number[];
  readonly batchSizes: readonly number[];
  /** Tokens that each sequence generates. */
  readonly outputLength: number;
}

export interface BatchWorkload {
  readonly promptLength: number;
  readonly batchSize: number;
  readonly outputLength: number;
}

/** A benchmark's name, its columns, and how it measures one workload. */
export interface BatchBench {
  readonly name: string;
  readonly columns: readonly ReportColumn[];
  readonly measure: (
    session: BenchSession,
    workload: BatchWorkload,
    repeats: Repeats,
  ) => Promise<MeasuredRow>;
}

/** Loads the model once and measures every workload. */
export async function benchBatches(
  { name, columns, measure }: BatchBench,
  args: EngineArgs,
  workloads: BatchWorkloads,
  events: LoadEvents = {},
): Promise<BenchReport> {
  const { promptLengths, batchSizes, outputLength } = workloads;
  const maxNumSeqs = Math.max(args.maxNumSeqs, ...batchSizes);
  return await withSession({ ...args, maxNumSeqs }, events, async (session) => {
    const rows: MeasuredRow[] = [];
    for (const batchSize of batchSizes) {
      for (const promptLength of promptLengths) {
        const workload = { batchSize, promptLength, outputLength };
        rows.push(await measure(session, workload, workloads));
      }
    }
    return sessionReport(name, session, columns, rows);
  });
}
