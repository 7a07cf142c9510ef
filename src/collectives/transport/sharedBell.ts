/**
 * A rank's bell on shared memory: a count of rings, a flag that says whether the rank sleeps, and the
 * count that it wants to be woken at. Ringing an awake rank costs no system call, nor does ringing one that
 * needs more than this to go on: of seven messages that a rank waits for, only the last wakes it. The count
 * is read before polling and compared by the sleep itself, so a ring between the two is never lost.
 */
import type { Bell } from "./waiters.ts";

/**
 * `async`: `Atomics.waitAsync`, the event loop goes on; needed by a thread that maps GPU buffers.
 * `block`: `Atomics.wait`, less latency, for threads with nothing else to do (never a page's main one).
 */
export type WaitMode = "async" | "block";

export interface BellOptions {
  readonly wait: WaitMode;
  /** Longest single blocking sleep. */
  readonly sliceMs: number;
}

const [COUNT, SLEEPS, WAKE_AT] = [0, 1, 2];
/** More than anybody waits for. */
const MANY_RINGS = 2 ** 20;

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
  /** How long it looks before it sleeps: chooseSpinMs in sharedMemory.ts. */
  spinMs = 0;
  /** Whether it may, now; asked before each sleep. */
  maySpin: () => boolean = () => true;

  constructor(words: Int32Array, options: BellOptions) {
    this.#words = words;
    this.#options = options;
  }

  /** Rings another rank's bell; wakes it if it sleeps and has waited for this ring. */
  static ring(words: Int32Array): void {
    const count = Atomics.add(words, COUNT, 1) + 1;
    if (Atomics.load(words, SLEEPS) === 0) return;
    if (isReached(count, Atomics.load(words, WAKE_AT))) Atomics.notify(words, COUNT);
  }

  /** As `ring`, and wakes it whatever it waits for: an abort, a rank that leaves. */
  static alarm(words: Int32Array): void {
    Atomics.add(words, COUNT, MANY_RINGS);
    Atomics.notify(words, COUNT);
  }

  /** This rank's own alarm: what it sleeps for has changed. */
  alarm(): void {
    SharedBell.alarm(this.#words);
  }

  read(): number {
    return Atomics.load(this.#words, COUNT);
  }

  async sleep(seen: number, numPending: number, numRings = 1): Promise<void> {
    const wakeAt = (seen + numRings) | 0;
    if (this.spinMs > 0) await turn();
    if (this.#spin(wakeAt)) return;
    if (this.#options.wait === "block") await this.#yieldTurns();
    Atomics.store(this.#words, WAKE_AT, wakeAt);
    Atomics.store(this.#words, SLEEPS, 1);
    // Asleep it is not woken by rings before the last, but they may come just before it falls asleep.
    let count = this.read();
    while (!isReached(count, wakeAt)) {
      if (await this.#sleepAt(count, numPending)) break;
      count = this.read();
    }
    Atomics.store(this.#words, SLEEPS, 0);
  }

  /** False when the count was another one already. */
  async #sleepAt(count: number, numPending: number): Promise<boolean> {
    if (this.#options.wait === "block") {
      const sliceMs = numPending > 1 ? SLICE_OF_MANY_MS : this.#options.sliceMs;
      return Atomics.wait(this.#words, COUNT, count, sliceMs) !== "not-equal";
    }
    const outcome = Atomics.waitAsync(this.#words, COUNT, count);
    if (!outcome.async) return outcome.value !== "not-equal";
    await outcome.value;
    return true;
  }

  async #yieldTurns(): Promise<void> {
    for (let turn = 0; turn < TURNS_BEFORE_BLOCKING; turn++) await Promise.resolve();
  }

  /** True when the bell rang often enough meanwhile. */
  #spin(wakeAt: number): boolean {
    if (this.spinMs <= 0 || !this.maySpin()) return isReached(this.read(), wakeAt);
    const end = performance.now() + this.spinMs;
    do {
      if (isReached(this.read(), wakeAt)) return true;
    } while (performance.now() < end);
    return false;
  }
}

/**
 * One turn of the event loop. What has just arrived is taken further first, as far as it goes by itself: to
 * the next submit and the wait for its map. A thread that looked at once would look for nothing that can come.
 */
function turn(): Promise<void> {
  const { setImmediate } = globalThis as { setImmediate?: (callback: () => void) => unknown };
  if (setImmediate === undefined) return Promise.resolve();
  return new Promise((resolve) => setImmediate(resolve));
}

/** Counts wrap at 32 bits. */
function isReached(count: number, wakeAt: number): boolean {
  return ((count - wakeAt) | 0) >= 0;
}
