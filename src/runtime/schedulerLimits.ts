/** Checks that an executor's limits make sense together, before anything is planned within them. */
import { UsageError } from "../common/errors.ts";
import type { ExecutorLimits } from "./executor/executor.ts";

/** Throws a UsageError unless every limit is a whole number of at least 1 and the budget holds one token a sequence. */
export function checkLimits(limits: ExecutorLimits): void {
  for (const [name, value] of Object.entries(limits) as [string, number][]) {
    if (Number.isSafeInteger(value) && value >= 1) continue;
    throw new UsageError({ what: name, expected: "a whole number of at least 1", got: value });
  }
  const { maxNumSeqs, maxNumBatchedTokens } = limits;
  if (maxNumBatchedTokens < maxNumSeqs) {
    throw new UsageError({
      what: "maxNumBatchedTokens",
      expected: `at least maxNumSeqs (${maxNumSeqs}), one token for each running sequence`,
      got: maxNumBatchedTokens,
      remedy: "raise maxNumBatchedTokens or lower maxNumSeqs",
    });
  }
}
