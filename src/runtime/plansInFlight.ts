/** Plans whose output is awaited, and the check that an output is the one that is due. */
import { TandemError, WorkerError } from "../common/errors.ts";
import type { Sequence } from "./sequence.ts";
import type { ScheduledSequence, StepOutput, TokenLogprobs } from "./stepPlan.ts";

/** One sequence's part of a plan. */
export interface Part {
  readonly sequence: Sequence;
  readonly scheduled: ScheduledSequence;
}

/** A part and what its plan's output holds for it. */
export interface ReturnedPart {
  readonly sequence: Sequence;
  readonly tokenId: number | undefined;
  /** Undefined where none were asked for; null where they were, but the executor gave none. */
  readonly logprobs: TokenLogprobs | null | undefined;
  readonly promptLogprobs: readonly TokenLogprobs[] | null | undefined;
}

interface PlanInFlight {
  readonly stepIndex: number;
  readonly parts: readonly Part[];
  /** Submitted together with the plan before it. */
  readonly isFollower: boolean;
}

export class PlansInFlight {
  readonly #plans: PlanInFlight[] = []; // oldest first
  readonly #vocabSize: number;

  constructor(vocabSize: number) {
    this.#vocabSize = vocabSize;
  }

  get length(): number {
    return this.#plans.length;
  }

  /** Plans, a burst counting as one. */
  get numSubmits(): number {
    return this.#plans.filter(({ isFollower }, index) => index === 0 || !isFollower).length;
  }

  add(stepIndex: number, parts: readonly Part[], isFollower: boolean): void {
    this.#plans.push({ stepIndex, parts, isFollower });
  }

  /** Takes the oldest plan's output apart; throws a WorkerError, and takes nothing, if it is not that. */
  take(output: StepOutput): ReturnedPart[] {
    const oldest = this.#plans[0];
    if (oldest === undefined)
      throw new TandemError(`step ${output.stepIndex}: no plan is in flight`);
    this.#check(oldest, output);
    this.#plans.shift();
    let [numSampled, numPrompts] = [0, 0];
    return oldest.parts.map(({ sequence, scheduled }) => {
      const { samples, numLogprobs, promptLogprobs } = scheduled;
      const index = samples ? numSampled++ : -1;
      return {
        sequence,
        tokenId: output.tokenIds[index],
        logprobs: numLogprobs === undefined ? undefined : (output.logprobs?.[index] ?? null),
        promptLogprobs:
          promptLogprobs === undefined
            ? undefined
            : (output.promptLogprobs?.[numPrompts++] ?? null),
      };
    });
  }

  #check(oldest: PlanInFlight, { stepIndex, tokenIds }: StepOutput): void {
    const numSamples = oldest.parts.filter(({ scheduled }) => scheduled.samples).length;
    if (stepIndex !== oldest.stepIndex || tokenIds.length !== numSamples) {
      const expected = `step ${oldest.stepIndex} with ${numSamples} tokens`;
      throw new WorkerError(
        `step output: expected ${expected}, got step ${stepIndex} with ${tokenIds.length}`,
      );
    }
    const vocabSize = this.#vocabSize;
    const wild = tokenIds.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
    if (wild === undefined) return;
    throw new WorkerError(
      `step ${stepIndex}: expected sampled ids from 0 to ${vocabSize - 1}, got ${wild}`,
    );
  }
}
