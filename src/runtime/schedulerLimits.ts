/** Checks that an executor's limits make sense together, before anything is planned within them. */
import { UsageError } from "../common/errors.ts";
import { ceilDiv } from "../common/math.ts";
import type { ExecutorLimits } from "./executor/executor.ts";

/** Settings that have a default; vLLM's names where it has them. */
export interface SchedulerOptions {
  /** Find blocks of earlier requests that hold the same prefix; true when left out. */
  readonly enablePrefixCaching?: boolean;
  /** Prefills that may be under way at once, in chunks over several steps; 1 when left out. */
  readonly maxNumPartialPrefills?: number;
  /**
   * Prefill tokens of one sequence in one step, so that a long prompt leaves room for others. When left
   * out, maxNumBatchedTokens over maxNumPartialPrefills.
   */
  readonly longPrefillTokenThreshold?: number;
  /** Later arrivals that may be admitted before a request, whatever their priority; 64 when left out. */
  readonly maxOvertakes?: number;
}

export type ResolvedSchedulerOptions = Required<SchedulerOptions>;

const DEFAULT_MAX_OVERTAKES = 64;

/** Fills in defaults; throws a UsageError where a number is not a whole number of at least 1. */
export function resolveSchedulerOptions(
  options: SchedulerOptions,
  { maxNumBatchedTokens }: ExecutorLimits,
): ResolvedSchedulerOptions {
  const maxNumPartialPrefills = options.maxNumPartialPrefills ?? 1;
  checkCount("maxNumPartialPrefills", maxNumPartialPrefills);
  const evenShare = ceilDiv(maxNumBatchedTokens, maxNumPartialPrefills);
  const counts = {
    maxNumPartialPrefills,
    longPrefillTokenThreshold: options.longPrefillTokenThreshold ?? evenShare,
    maxOvertakes: options.maxOvertakes ?? DEFAULT_MAX_OVERTAKES,
  };
  for (const [name, value] of Object.entries(counts)) checkCount(name, value);
  return { ...counts, enablePrefixCaching: options.enablePrefixCaching ?? true };
}

/** Throws a UsageError unless every limit is a whole number of at least 1 and the budget holds one token a sequence. */
export function checkLimits(limits: ExecutorLimits): void {
  for (const [name, value] of Object.entries(limits) as [string, number | boolean][]) {
    if (typeof value === "number") checkCount(name, value);
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

function checkCount(what: string, value: number): void {
  if (Number.isSafeInteger(value) && value >= 1) return;
  throw new UsageError({ what, expected: "a whole number of at least 1", got: value });
}
