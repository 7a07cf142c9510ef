/** One step in the making: its parts, and what is left of its token budget. */
import type { Part } from "./plansInFlight.ts";
import { numLogitRows } from "./promptRows.ts";
import type { Sequence } from "./sequence.ts";
import type { StepPlan } from "./stepPlan.ts";
import { packAllowedTokens } from "./tokenMask.ts";

/** How many tokens a step may hold. */
export interface BatchBudget {
  readonly numTokens: number;
  /** Of these, prefill tokens in all, and of one sequence. */
  readonly numPrefillTokens: number;
  readonly numPrefillTokensEach: number;
  /** Rows of logits that a step may need. */
  readonly numLogitRows: number;
}

export class Batch {
  readonly stepIndex: number;
  readonly #numPrefillTokensEach: number;
  readonly #parts: Part[] = [];
  #dependsOnStep = -1;
  #numTokensLeft: number;
  #numPrefillTokensLeft: number;
  #numRowsLeft: number; // of logits: one a token that is sampled, or whose log-probability is asked for

  constructor(stepIndex: number, budget: BatchBudget) {
    this.stepIndex = stepIndex;
    this.#numPrefillTokensEach = budget.numPrefillTokensEach;
    this.#numTokensLeft = budget.numTokens;
    this.#numPrefillTokensLeft = budget.numPrefillTokens;
    this.#numRowsLeft = budget.numLogitRows;
  }

  /** Decodes first, as StepPlan says. */
  get parts(): Part[] {
    // The sort is stable: decodes stay in front of chunks of one token.
    return [...this.#parts].sort((a, b) => sortKey(a) - sortKey(b));
  }

  get plan(): StepPlan {
    const sequences = this.parts.map(({ scheduled }) => scheduled);
    return { stepIndex: this.stepIndex, sequences, dependsOnStep: this.#dependsOnStep };
  }

  /** Tokens of a prefill of this length that still fit; `needsRows`: each of them takes a row of logits. */
  chunkOf(numPrefillLeft: number, needsRows: boolean): number {
    const share = Math.min(this.#numPrefillTokensEach, this.#numPrefillTokensLeft);
    const fitting = Math.min(numPrefillLeft, share, this.#numTokensLeft);
    if (needsRows) return Math.min(fitting, this.#numRowsLeft);
    // Otherwise the last one alone, since a token is sampled there.
    return this.#numRowsLeft > 0 ? fitting : Math.min(fitting, numPrefillLeft - 1);
  }

  /** Adds a chunk, or a decode of one token. Throws what the request's `allowedTokens` throws. */
  add(sequence: Sequence, numTokens: number, vocabSize: number): void {
    const { request, lastSampledStep } = sequence;
    const isDecode = sequence.numPrefillLeft === 0;
    const { allowedTokens: maskOf } = request;
    const hasMask = maskOf !== null && sequence.samplesAfter(numTokens);
    const mask = hasMask ? maskOf(sequence.completion) : null;
    const allowedTokens = packAllowedTokens(mask, vocabSize, sequence.bannedNext);
    const scheduled = sequence.plan(numTokens, this.stepIndex, allowedTokens);
    this.#parts.push({ sequence, scheduled });
    this.#numTokensLeft -= numTokens;
    this.#numRowsLeft -= numLogitRows({ sequences: [scheduled] });
    if (isDecode) this.#dependsOnStep = Math.max(this.#dependsOnStep, lastSampledStep);
    else this.#numPrefillTokensLeft -= numTokens;
  }
}

function sortKey({ scheduled }: Part): number {
  return scheduled.numTokens === 1 ? 0 : 1;
}
