/**
 * Every error a user can meet, one class a cause. A message says what, expected, got, and the
 * remedy where one is known; the CLI prints it as one line, without a stack, and exits with `exitCode`.
 */

/** Base of all errors that Tandem raises on purpose. */
export class TandemError extends Error {
  /** Process exit code: 2 for what the user can correct, 1 for what failed while running. */
  readonly exitCode: number = 1;
  override get name(): string {
    return this.constructor.name;
  }
}

/** The four parts of a message; `got` and `remedy` may be left out where there is nothing to say. */
export interface Problem {
  readonly what: string;
  readonly expected: string;
  readonly got?: string | number;
  readonly remedy?: string;
}

/** `what: expected …, got …; remedy` */
export function describeProblem({ what, expected, got, remedy }: Problem): string {
  const gotPart = got === undefined ? "" : `, got ${got}`;
  return `${what}: expected ${expected}${gotPart}${remedy === undefined ? "" : `; ${remedy}`}`;
}

/** An error the user can correct: wrong flag, file, size or prompt. Raised before any work starts. */
export class InputError extends TandemError {
  override readonly exitCode = 2;
  constructor(problem: Problem | string) {
    super(typeof problem === "string" ? problem : describeProblem(problem));
  }
}

/** A flag, a value of a flag, or a combination of flags that cannot work. */
export class UsageError extends InputError {}
/** A model directory or config.json that is missing something or says something unsupported. */
export class ConfigError extends InputError {}
/** A safetensors file that is missing, truncated, lying or of the wrong dtype or shape. */
export class WeightsError extends InputError {}
/** A tpSize, ppSize or split that the model's sizes do not allow. */
export class ShardingError extends InputError {}
/** A prompt that is empty, has an id outside the vocabulary, or does not fit the context. */
export class PromptError extends InputError {}
/** No adapter, no such adapter, or an adapter without a needed feature or limit. */
export class AdapterError extends InputError {}

/** A tensor of the wrong shape or dtype reached a kernel: a bug in the caller. */
export class ShapeError extends TandemError {}
/** The GPU rejected a command; `label` names the kernel or buffer. */
export class DeviceError extends TandemError {}
/** The device went away; nothing on it can be used any more. */
export class DeviceLostError extends DeviceError {}
/** A buffer did not fit into the device's memory. */
export class OutOfMemoryError extends DeviceError {}

/** A collective failed; the message names group, operation, sequence number and rank. */
export class CollectiveError extends TandemError {}
/** A rank did not arrive at a collective before its deadline. */
export class CollectiveTimeoutError extends CollectiveError {}
/** The group was aborted by another rank's failure. */
export class CollectiveAbortedError extends CollectiveError {}

/** A worker thread died or stopped answering. */
export class WorkerError extends TandemError {}

/** The message of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
