/**
 * Bursts: steps whose decodes need nothing of the host in between, planned at once and submitted together
 * (vLLM's multi-step scheduling). The GPU goes from one step to the next without waiting for a submit, and
 * the host submits, maps and wakes once for all of them.
 */
import type { KvBlocks } from "./kvBlocks.ts";
import type { Sequence } from "./sequence.ts";
import type { StepPlan } from "./stepPlan.ts";

/** Whether so many steps of the running sequences would all be decodes of the same, whatever tokens come. */
export function canBurst(
  running: readonly Sequence[],
  blocks: KvBlocks,
  numSteps: number,
): boolean {
  if (running.length === 0) return false;
  const areFree = running.every((sequence) => sequence.canDecodeAhead(numSteps));
  return areFree && blocks.canGrowAll(running, numSteps);
}

/** Plans in a row as a burst. */
export function burstOf(planned: readonly (StepPlan | null)[]): StepPlan[] {
  const [first, ...followers] = planned.filter((plan) => plan !== null);
  return first === undefined ? [] : [{ ...first, numFollowers: followers.length }, ...followers];
}

/** A burst on its way to a lane: its plans as they come in, until it is whole. */
export class GatheredBurst {
  /** Settles as its replay does. */
  readonly replayed: Promise<void>;
  readonly #plans: StepPlan[] = [];
  readonly #numPlans: number;
  #follow: (replayed: Promise<void>) => void = () => undefined;

  constructor({ numFollowers = 0 }: StepPlan) {
    this.#numPlans = numFollowers + 1;
    this.replayed = new Promise((resolve) => (this.#follow = resolve));
  }

  /** Adds the next plan; true once the burst is whole. */
  add(plan: StepPlan): boolean {
    this.#plans.push(plan);
    return this.#plans.length === this.#numPlans;
  }

  /** Has the whole burst replayed. */
  replay(replay: (plans: readonly StepPlan[]) => Promise<void>): void {
    this.#follow(replay(this.#plans));
  }
}
