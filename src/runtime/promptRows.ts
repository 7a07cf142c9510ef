/**
 * Prompt tokens whose log-probabilities a step reports. Each is a row of logits of its own: they come after
 * the rows of the step's samples, go the same way, and what is drawn from them goes nowhere.
 */
import type { StepPlan } from "./stepPlan.ts";

export interface PromptRow {
  /** Row of the step's tokens whose logits say it. */
  readonly tokenRow: number;
  /** The prompt token that follows there. */
  readonly targetTokenId: number;
  readonly numLogprobs: number;
  /** Of the plan's parts that ask for such rows, the how manieth. */
  readonly part: number;
}

/** In the order of the plan's parts, and of their targets. */
export function promptRows({ sequences }: Pick<StepPlan, "sequences">): PromptRow[] {
  const rows: PromptRow[] = [];
  let [firstRow, part] = [0, 0];
  for (const { promptLogprobs, numTokens } of sequences) {
    const { targetTokenIds = [], numLogprobs = 0 } = promptLogprobs ?? {};
    for (const [i, targetTokenId] of targetTokenIds.entries()) {
      rows.push({ tokenRow: firstRow + i, targetTokenId, numLogprobs, part });
    }
    if (promptLogprobs !== undefined) part += 1;
    firstRow += numTokens;
  }
  return rows;
}

/** Rows of logits that a step needs: those it samples from, and those of prompt tokens. */
export function numLogitRows({ sequences }: Pick<StepPlan, "sequences">): number {
  return sequences.reduce(
    (sum, { samples, promptLogprobs }) =>
      sum + (samples ? 1 : 0) + (promptLogprobs?.targetTokenIds.length ?? 0),
    0,
  );
}
