/**
 * Writes a rank's flight record to a JSON file when an operation fails, and when somebody asks with
 * `kill -USR2`: a signal reaches only the main thread, which passes it on through the control block.
 * The files lie in TANDEM_FLIGHT_RECORDER_DIR, by default where the system keeps temporary files.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isMainThread } from "node:worker_threads";
import { messageOf } from "../../common/errors.ts";
import { createLogger, type Logger } from "../../common/logger.ts";
import { type ControlBlock, MAX_GROUPS, type RankProgress } from "./controlBlock.ts";
import type { FlightDump, FlightRecorder } from "./flightRecorder.ts";

/** What the file holds. */
export interface FlightReport extends FlightDump {
  readonly reason: string;
  readonly pid: number;
  readonly timeMs: number;
  readonly abort: { readonly rank: number | undefined; readonly reason: string } | undefined;
  /** How far every rank had come, in each group (by namespace) that it was in. */
  readonly progress: readonly (RankProgress & {
    readonly rank: number;
    readonly namespace: number;
  })[];
}

export interface FlightDumpOptions {
  /** By default TANDEM_FLIGHT_RECORDER_DIR. */
  readonly directory?: string;
  readonly logger?: Logger;
  /** Whether to pass on SIGUSR2; by default on the main thread. One rank of a process does it for all. */
  readonly onSignal?: boolean;
}

const POLL_MS = 200;

/** Returns a function that takes it off again. */
export function installFlightDump(
  recorder: FlightRecorder,
  control: ControlBlock,
  options: FlightDumpOptions = {},
): () => void {
  let numRequests = control.numDumpRequests;
  let hasFailed = false;
  recorder.onFailure((reason) => {
    if (hasFailed) return; // the operations that follow fail of the same cause
    hasFailed = true;
    writeFlightReport(recorder, control, reason, options);
  });
  const timer = setInterval(() => {
    if (control.numDumpRequests === numRequests) return;
    numRequests = control.numDumpRequests;
    writeFlightReport(recorder, control, "asked for by SIGUSR2", options);
  }, POLL_MS);
  timer.unref();
  const { onSignal = isMainThread } = options;
  const removeSignal = onSignal ? dumpOnSignal(control) : () => undefined;
  return () => {
    clearInterval(timer);
    removeSignal();
  };
}

/** On the main thread, for ranks that live in worker threads. */
export function dumpOnSignal(control: ControlBlock): () => void {
  const ask = (): void => {
    control.requestDump();
  };
  process.on("SIGUSR2", ask);
  return () => process.off("SIGUSR2", ask);
}

/** The path of the file, or undefined where it could not be written: a report must not hide the failure. */
export function writeFlightReport(
  recorder: FlightRecorder,
  control: ControlBlock,
  reason: string,
  { directory, logger = createLogger("collectives") }: FlightDumpOptions = {},
): string | undefined {
  const folder = directory ?? (process.env["TANDEM_FLIGHT_RECORDER_DIR"] || tmpdir());
  const timeMs = Date.now();
  const path = join(folder, `tandem-flight-${process.pid}-rank${recorder.rank}-${timeMs}.json`);
  const report: FlightReport = {
    reason,
    pid: process.pid,
    timeMs,
    abort: control.abortCause,
    progress: progressOf(control),
    ...recorder.dump(),
  };
  try {
    mkdirSync(folder, { recursive: true });
    writeFileSync(path, `${JSON.stringify(report, undefined, 1)}\n`);
  } catch (error) {
    logger.warn(`rank ${recorder.rank}: no flight record: ${messageOf(error)}`);
    return undefined;
  }
  logger.warn(`rank ${recorder.rank}: flight record in ${path}`);
  return path;
}

function progressOf(control: ControlBlock): FlightReport["progress"] {
  const namespaces = Array.from({ length: MAX_GROUPS }, (_, namespace) => namespace);
  const ranks = Array.from({ length: control.worldSize }, (_, rank) => rank);
  return namespaces.flatMap((namespace) =>
    ranks
      .map((rank) => ({ rank, namespace, ...control.progress(rank, namespace) }))
      .filter(({ started }) => started > 0),
  );
}
