/**
 * Estimates how much of the pipeline stands idle, from the plans alone: every step is taken to need one
 * unit of time on every stage. It sees what the schedule causes (dependences, too few plans in flight),
 * not what uneven stages or slow transfers add.
 */

/** Counts stage-steps; one for each Scheduler. */
export class PipelineMeter {
  readonly #numStages: number;
  readonly #freeAt: number[]; // by stage: when it can take its next step
  readonly #sampledAt = new Map<number, number>(); // by step: when the last stage is done with it
  #returnedAt = 0; // when the newest step that came back was done
  #spanBegin = 0;
  #numSteps = 0;
  #elapsed = 0; // of spans that are over

  constructor(numStages: number) {
    this.#numStages = numStages;
    this.#freeAt = Array.from({ length: numStages }, () => 0);
  }

  /** A plan was made; it needs the tokens of `dependsOnStep`, or none (-1). */
  planned(stepIndex: number, dependsOnStep: number): void {
    if (this.#sampledAt.size === 0) this.#beginSpan();
    // Made after that output came back, and read by the first stage only once its tokens are known.
    let doneAt = Math.max(this.#returnedAt, this.#sampledAt.get(dependsOnStep) ?? 0);
    for (let stage = 0; stage < this.#numStages; stage++) {
      doneAt = Math.max(doneAt, this.#freeAt[stage] ?? 0) + 1;
      this.#freeAt[stage] = doneAt;
    }
    this.#sampledAt.set(stepIndex, doneAt);
    this.#numSteps += 1;
  }

  /** The oldest plan's output came back. */
  returned(stepIndex: number): void {
    this.#returnedAt = this.#sampledAt.get(stepIndex) ?? this.#returnedAt;
    this.#sampledAt.delete(stepIndex);
  }

  /** Idle stage-steps over all stage-steps, while there was a plan in flight; 0 before the first. */
  get bubbleFraction(): number {
    const elapsed = this.#elapsed + Math.max(0, ...this.#freeAt) - this.#spanBegin;
    return elapsed === 0 ? 0 : 1 - this.#numSteps / elapsed;
  }

  // Time without a plan is nobody's bubble: the clock stands still.
  #beginSpan(): void {
    const now = Math.max(0, ...this.#freeAt);
    this.#elapsed += now - this.#spanBegin;
    this.#spanBegin = now;
    this.#returnedAt = now;
  }
}
