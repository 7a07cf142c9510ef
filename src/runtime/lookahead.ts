/**
 * How many plans may wait for their output at once, and how many of them are submitted together.
 *
 * The GPU never idles if the next step is submitted before the running one ends. One plan ahead gives the
 * host one step's time for that: to see the tokens, plan, reach the rank's thread and encode, 1 to 1.5 ms
 * where a step of a small model takes 1. So while steps are short there is one more. It costs a stopped
 * sequence a surplus token, and a new request the wait for it: little, while steps are short.
 *
 * Between two submits an H200 idles for 20 us, 2 % of such a step, and the host's work for a step is half
 * submitting, mapping and planning. So while steps are short and nobody waits, decodes go in bursts: two
 * are under way, and a new request waits for both at most.
 */
import type { ExecutorLimits } from "./executor/executor.ts";

/** Twice what the host takes from one step's tokens to the next step's submit, at most. */
const SHORT_STEP_MS = 2.5;
/**
 * Times between outputs that a step's time is the mean of, and those that it takes at least. An output that is seen
 * late, as the thread was encoding, makes the next seem early.
 */
const MAX_TIMES = 4;
const MIN_TIMES = 2;

export class Lookahead {
  readonly #maxInFlight: number;
  readonly #maxLongInFlight: number;
  readonly #burstSteps: number;
  /** The last times between outputs, and their steps. */
  readonly #times: { readonly ms: number; readonly numSteps: number }[] = [];
  /** When the last output came; undefined once nothing was in flight. */
  #returnedMs: number | undefined;

  constructor({ maxInFlight, maxLongInFlight = maxInFlight, burstSteps = 1 }: ExecutorLimits) {
    this.#maxInFlight = maxInFlight;
    this.#maxLongInFlight = maxLongInFlight;
    this.#burstSteps = burstSteps;
  }

  /** The outputs of so many steps that were submitted together came. */
  returned(nowMs: number, numSteps = 1): void {
    if (this.#returnedMs !== undefined)
      this.#times.push({ ms: nowMs - this.#returnedMs, numSteps });
    if (this.#times.length > MAX_TIMES) this.#times.shift();
    this.#returnedMs = nowMs;
  }

  /** Nothing is in flight: when the next output comes tells nothing of a step, and steps are taken to be as they were. */
  rested(): void {
    this.#returnedMs = undefined;
  }

  /** Plans that may be in flight now, a burst counting as one. */
  get maxPlans(): number {
    return this.#isShort ? this.#maxInFlight : this.#maxLongInFlight;
  }

  /** Plans that a burst may have now; 1: there should be none. */
  get burstSteps(): number {
    return this.#isShort ? this.#burstSteps : 1;
  }

  /** Plans in flight, each step counted, from which on bursts follow: encoding one takes as long as several steps. */
  get minBeforeBurst(): number {
    return Math.min(this.burstSteps, this.maxPlans);
  }

  /** And up to which: of two bursts one is over. */
  get maxBeforeBurst(): number {
    return Math.max(this.burstSteps, this.maxPlans);
  }

  get #isShort(): boolean {
    const ms = this.#times.reduce((sum, time) => sum + time.ms, 0);
    const numSteps = this.#times.reduce((sum, time) => sum + time.numSteps, 0);
    return this.#times.length >= MIN_TIMES && ms < SHORT_STEP_MS * numSteps;
  }
}
