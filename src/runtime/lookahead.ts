/**
 * How many plans may wait for their output at once.
 *
 * The GPU never idles if the next step is submitted before the running one ends. One plan ahead gives the
 * host one step's time for that: to see the tokens, plan, reach the rank's thread and encode, 1 to 1.5 ms
 * where a step of a small model takes 1. So while steps are short there is one more. It costs a stopped
 * sequence a surplus token, and a new request the wait for it: little, while steps are short.
 */
import type { ExecutorLimits } from "./executor/executor.ts";

/** Twice what the host takes from one step's tokens to the next step's submit, at most. */
const SHORT_STEP_MS = 2.5;

export class Lookahead {
  readonly #maxInFlight: number;
  readonly #maxLongInFlight: number;
  #returnedMs = -Infinity;
  /** Of the last two outputs, each since the one before: one that was late makes the next seem early. */
  #lastMs = Infinity;
  #lastButOneMs = Infinity;

  constructor({ maxInFlight, maxLongInFlight = maxInFlight }: ExecutorLimits) {
    this.#maxInFlight = maxInFlight;
    this.#maxLongInFlight = maxLongInFlight;
  }

  /** A step's output came. */
  returned(nowMs: number): void {
    this.#lastButOneMs = this.#lastMs;
    this.#lastMs = nowMs - this.#returnedMs;
    this.#returnedMs = nowMs;
  }

  /** Plans that may be in flight now. */
  get maxPlans(): number {
    const isShort = Math.max(this.#lastMs, this.#lastButOneMs) < SHORT_STEP_MS;
    return isShort ? this.#maxInFlight : this.#maxLongInFlight;
  }
}
