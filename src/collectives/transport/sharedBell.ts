/**
 * A rank's bell on shared memory: a count of rings and a flag that says whether the rank sleeps, so
 * that ringing an awake rank costs no system call. The count is read before polling and compared by
 * the sleep itself, so a ring between the two is never lost.
 */
import type { Bell } from "./waiters.ts";

/**
 * `async`: `Atomics.waitAsync`, the event loop goes on; needed by a thread that maps GPU buffers.
 * `block`: `Atomics.wait`, less latency, for threads with nothing else to do (never a page's main one).
 */
export type WaitMode = "async" | "block";

export interface BellOptions {
  readonly wait: WaitMode;
  /** At most 50 µs, and 0 unless every rank has a core of its own. */
  readonly spinMs: number;
  /** Longest single blocking sleep. */
  readonly sliceMs: number;
}

/** Words a bell takes: a cache line. */
export const BELL_WORDS = 16;

// A blocking rank first lets other promises of its thread run: an operation that has just ended may
// be about to send what everybody waits for. The collectives chain fewer steps than this.
const TURNS_BEFORE_BLOCKING = 12;
// With several waits at once their owners may need a turn of the event loop in between.
const SLICE_OF_MANY_MS = 2;

export class SharedBell implements Bell {
  readonly #words: Int32Array;
  readonly #options: BellOptions;

  constructor(words: Int32Array, options: BellOptions) {
    this.#words = words;
    this.#options = options;
  }

  /** Rings another rank's bell; wakes it if it sleeps. */
  static ring(words: Int32Array): void {
    Atomics.add(words, 0, 1);
    if (Atomics.load(words, 1) === 1) Atomics.notify(words, 0);
  }

  read(): number {
    return Atomics.load(this.#words, 0);
  }

  async sleep(seen: number, numPending: number): Promise<void> {
    if (this.#spin(seen)) return;
    if (this.#options.wait === "block") await this.#yieldTurns();
    Atomics.store(this.#words, 1, 1);
    if (this.#options.wait === "block") {
      const sliceMs = numPending > 1 ? SLICE_OF_MANY_MS : this.#options.sliceMs;
      Atomics.wait(this.#words, 0, seen, sliceMs);
    } else {
      const outcome = Atomics.waitAsync(this.#words, 0, seen);
      if (outcome.async) await outcome.value;
    }
    Atomics.store(this.#words, 1, 0);
  }

  async #yieldTurns(): Promise<void> {
    for (let turn = 0; turn < TURNS_BEFORE_BLOCKING; turn++) await Promise.resolve();
  }

  /** True when the bell rang meanwhile. */
  #spin(seen: number): boolean {
    if (this.#options.spinMs <= 0) return this.read() !== seen;
    const end = performance.now() + this.#options.spinMs;
    do {
      if (this.read() !== seen) return true;
    } while (performance.now() < end);
    return false;
  }
}
