/** The wishes to end early: SIGINT, SIGTERM, and a reader of stdout that went away. */
import { constants } from "node:os";
import type { Streams } from "./context.ts";

type StopSignal = "SIGINT" | "SIGTERM";

/** What runs guarded has this long to end, unless it says more; then the process is killed, so that nothing hangs. */
const GRACE_MS = 10_000;

/**
 * A signal ends the process at once, unless guarded work runs: that is asked to end by `signal`, and
 * only a second signal (or GRACE_MS) kills it.
 *
 * To kill is to let Node's default handler have the signal: process.exit() with a buffer map pending
 * makes Dawn abort the process with a core dump.
 */
export class StopRequest {
  readonly #controller = new AbortController();
  readonly #release: (() => void)[] = [];
  #numGuarded = 0;
  #graceMs = GRACE_MS;
  #exitCode: number | undefined;
  #failure: Error | undefined;

  constructor({ stdout, stderr }: Streams) {
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      const onSignal = (): void => this.#onSignal(signal);
      process.on(signal, onSignal);
      this.#release.push(() => process.off(signal, onSignal));
    }
    // These two stay: a write that is under way may still fail after the command's end.
    stdout.on("error", (error: Error) => this.#onWriteError(error));
    stderr.on("error", () => undefined); // nobody is left to tell
  }

  /** Aborted once guarded work should end. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The process's exit code if it was asked to stop; 130 and 143 as a shell has them. */
  get exitCode(): number | undefined {
    return this.#exitCode;
  }

  /** Why stdout took no more, unless its reader just left. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Runs work that ends within `graceMs` after `signal` is aborted. */
  async guard<T>(work: () => Promise<T>, graceMs = GRACE_MS): Promise<T> {
    this.#numGuarded += 1;
    this.#graceMs = Math.max(this.#graceMs, graceMs);
    try {
      return await work();
    } finally {
      this.#numGuarded -= 1;
    }
  }

  /** Gives the signals back to Node's default handlers. */
  dispose(): void {
    for (const release of this.#release.splice(0)) release();
  }

  #onSignal(signal: StopSignal): void {
    this.dispose();
    const kill = (): boolean => process.kill(process.pid, signal);
    if (this.#numGuarded === 0) kill();
    else setTimeout(kill, this.#graceMs).unref();
    this.#stop(128 + constants.signals[signal]);
  }

  #onWriteError(error: Error & { readonly code?: string }): void {
    const isReaderGone = error.code === "EPIPE"; // `| head` has what it wanted
    if (!isReaderGone) this.#failure ??= error;
    this.#stop(isReaderGone ? 0 : 1);
  }

  #stop(exitCode: number): void {
    this.#exitCode ??= exitCode;
    this.#controller.abort();
  }
}
