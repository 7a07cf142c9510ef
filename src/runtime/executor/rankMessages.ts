/** What crosses between the main thread and a rank's thread. */
import type { SharedMemoryDescriptor } from "../../collectives/transport/sharedMemory.ts";
import * as errors from "../../common/errors.ts";
import type { TraceProcess } from "../../common/trace.ts";
import type { LaunchTime } from "../../device/timestamps.ts";
import type { LoadProgressEvent } from "../engineArgs.ts";
import type { RankReport, RankSpec } from "../rankSpec.ts";
import type { RankStats } from "../stats.ts";
import type { StepOutput } from "../stepPlan.ts";
import type { ProfiledStep, TapRecord } from "./rankHandle.ts";
import type { StepQueueMemory } from "./stepQueue.ts";

/** Handed to a rank's thread once. */
export interface ThreadSetup {
  readonly spec: RankSpec;
  readonly transport: SharedMemoryDescriptor;
  /** Main thread to rank: plans. */
  readonly plans: StepQueueMemory;
  /** Rank to main thread: StepMessages. */
  readonly outputs: StepQueueMemory;
}

/** How one plan ended on a rank, what it failed with between plans, or how far it has loaded. */
export type StepMessage =
  | { readonly stepIndex: number; readonly output: StepOutput | null }
  | { readonly stepIndex: number; readonly error: SerializedError }
  | { readonly stepIndex: null; readonly error: SerializedError }
  | { readonly stepIndex: null; readonly progress: LoadProgressEvent };

/** The calls of a rank's life, over comlink. */
export interface RankApi {
  open(setup: ThreadSetup): Promise<RankReport>;
  probeFreeBytes(maxBytes: number): Promise<number>;
  start(numBlocks: number): Promise<number>;
  forwardTaps(tokenIds: readonly number[], only: readonly string[]): Promise<TapRecord[]>;
  profileStep(step: ProfiledStep): Promise<readonly LaunchTime[]>;
  stats(): Promise<RankStats>;
  resetStats(): Promise<void>;
  trace(): Promise<TraceProcess | undefined>;
  shutdown(): Promise<void>;
}

/** An error without its class, which structured clone drops. */
export interface SerializedError {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
}

export function serializeError(error: unknown): SerializedError {
  if (!(error instanceof Error)) return { name: "Error", message: String(error), stack: undefined };
  const { name, message, stack } = error;
  return { name, message, stack };
}

/** The same error as an instance of its class, so that exit codes and `instanceof` work across threads. */
export function reviveError({ name, message, stack }: SerializedError): Error {
  const known = Object.entries(errors).find(([exported]) => exported === name)?.[1];
  const isClass = typeof known === "function" && known.prototype instanceof errors.TandemError;
  const Class = (isClass ? known : Error) as new (message: string) => Error;
  const revived = new Class(message);
  if (stack !== undefined) revived.stack = stack;
  return revived;
}

/** Result of a comlink call that keeps the class of what it throws. */
export type Settled<T> = { readonly value: T } | { readonly error: SerializedError };

export async function settle<T>(work: () => Promise<T>): Promise<Settled<T>> {
  try {
    return { value: await work() };
  } catch (error) {
    return { error: serializeError(error) };
  }
}

export function unsettle<T>(settled: Settled<T>): T {
  if ("error" in settled) throw reviveError(settled.error);
  return settled.value;
}

/** RankApi with failures as values. */
export type SettledApi = {
  readonly [K in keyof RankApi]: (
    ...args: Parameters<RankApi[K]>
  ) => Promise<Settled<Awaited<ReturnType<RankApi[K]>>>>;
};
