/** A rank's bell where everything that rings it runs in its own thread: no atomics, no timers. */
import type { Bell } from "./waiters.ts";

export class LocalBell implements Bell {
  #numRings = 0;
  #wake: (() => void) | undefined;

  alarm(): void {
    this.ring();
  }

  ring(): void {
    this.#numRings += 1;
    this.#wake?.();
    this.#wake = undefined;
  }

  read(): number {
    return this.#numRings;
  }

  sleep(seen: number): Promise<void> {
    if (this.#numRings !== seen) return Promise.resolve();
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}
