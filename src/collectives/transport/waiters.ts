/**
 * One rank's pending waits. Each is a `poll` that tries to make progress; all are polled again when
 * the rank's bell rings, and their guards look at deadline and agreement once a slice. The slice
 * timer is also the referenced handle that keeps a worker's event loop alive: the promise of
 * `Atomics.waitAsync` alone does not.
 */
import { messageOf } from "../../common/errors.ts";
import type { Guard } from "./transport.ts";

/** Tells one rank that something it may wait for has changed. */
export interface Bell {
  /** The number of rings so far, to be given to `sleep`. */
  read(): number;
  /**
   * Ends when the bell has rung `numRings` times more than `seen`; may end early. `numPending`: waits
   * that this sleep is for.
   */
  sleep(seen: number, numPending: number, numRings: number): Promise<void>;
  /** Ends the sleep. */
  alarm(): void;
}

interface Waiter {
  readonly waitingFor: number | undefined;
  readonly poll: () => boolean;
  readonly guard: Guard;
  readonly isWhole: boolean;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class Waiters {
  readonly #bell: Bell;
  readonly #sliceMs: number;
  #pending: Waiter[] = [];
  #driving = false;
  /** That the present sleep ends at; 0 while awake. */
  #numRings = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #inspectedAt = 0;

  constructor(bell: Bell, sliceMs: number) {
    this.#bell = bell;
    this.#sliceMs = sliceMs;
  }

  /**
   * Resolves once `poll` returns true; rejects with what `poll` or the guard throws. `isWhole`: it takes one
   * ring, of its own, to end it; between rings that only bring others of its kind nothing can be done.
   */
  wait(
    waitingFor: number | undefined,
    poll: () => boolean,
    guard: Guard,
    isWhole = false,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = { waitingFor, poll, guard, isWhole, resolve, reject };
      if (settled(waiter)) return;
      this.#pending.push(waiter);
      if (this.#numRings > 1) this.#bell.alarm(); // it may need a ring that the sleep would ignore
      this.#armTimer();
      if (!this.#driving) void this.#drive();
    });
  }

  /** Rejects whatever is still waiting. */
  close(error: Error): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const pending = this.#pending;
    this.#pending = [];
    for (const waiter of pending) waiter.reject(error);
  }

  async #drive(): Promise<void> {
    this.#driving = true;
    // Lets the caller start its other sends and receives before this rank sleeps.
    await Promise.resolve();
    while (this.#pending.length > 0) {
      const seen = this.#bell.read();
      if (this.#pollAll()) {
        await Promise.resolve();
        continue;
      }
      const numPending = this.#pending.length;
      // Of one operation only: another's messages may not come before this one has ended.
      const [first] = this.#pending;
      const isOne = this.#pending.every((each) => each.isWhole && each.guard === first?.guard);
      this.#numRings = isOne ? numPending : 1;
      await this.#bell.sleep(seen, numPending, this.#numRings);
      this.#numRings = 0;
      // A blocking sleep starves the timer, so the slice is also looked after here.
      if (performance.now() - this.#inspectedAt >= this.#sliceMs) this.#inspectAll();
    }
    this.#driving = false;
  }

  /** True when at least one wait has ended. */
  #pollAll(): boolean {
    const before = this.#pending;
    const left = before.filter((waiter) => !settled(waiter));
    // A poll may run the receiver's code, which may start another wait: keep what was added.
    this.#pending = [...left, ...this.#pending.filter((waiter) => !before.includes(waiter))];
    return left.length < before.length;
  }

  #inspectAll(): void {
    this.#inspectedAt = performance.now();
    this.#pending = this.#pending.filter((waiter) => !ended(waiter));
  }

  #armTimer(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#inspectAll();
      if (this.#pending.length > 0) this.#armTimer();
    }, this.#sliceMs);
  }
}

function settled(waiter: Waiter): boolean {
  try {
    waiter.guard.checkAbort();
    if (!waiter.poll()) return false;
    waiter.resolve();
  } catch (error) {
    waiter.reject(asError(error));
  }
  return true;
}

/** Inspects first, then polls once more: a peer may have sent its last message, and left, in between. */
function ended(waiter: Waiter): boolean {
  try {
    waiter.guard.inspect(waiter.waitingFor);
    return false;
  } catch (error) {
    if (!settled(waiter)) waiter.reject(asError(error));
    return true;
  }
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(messageOf(thrown));
}
