/** Checks that an executor's limits make sense together, before anything is planned within them. */
import { UsageError } from "../common/errors.ts";
import { ceilDiv } from "../common/math.ts";
import type { ExecutorLimits } from "./executor/executor.ts";

/** Whether requests may go before others: with `fcfs`, the first that came is the first that runs. */
export type SchedulingPolicy = "fcfs" | "priority";

/** Settings that have a default; vLLM's names where it has them. */
export interface SchedulerOptions {
  /** Find blocks of earlier requests that hold the same prefix; true when left out. */
  readonly enablePrefixCaching?: boolean | undefined;
  /** `fcfs` when left out: it refuses requests that name a priority. */
  readonly schedulingPolicy?: SchedulingPolicy | undefined;
  /** Prefills that may be under way at once, in chunks over several steps; 1 when left out. */
  readonly maxNumPartialPrefills?: number | undefined;
  /**
   * Prefill tokens of one sequence in one step, so that a long prompt leaves room for others. When left
   * out, maxNumBatchedTokens over maxNumPartialPrefills.
   */
  readonly longPrefillTokenThreshold?: number | undefined;
  /** Later arrivals that may be admitted before a request, whatever their priority; 64 when left out. */
  readonly maxOvertakes?: number | undefined;
}

export type ResolvedSchedulerOptions = {
  readonly [K in keyof SchedulerOptions]-?: NonNullable<SchedulerOptions[K]>;
};

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
  const { enablePrefixCaching = true, schedulingPolicy = "fcfs" } = options;
  return { ...counts, enablePrefixCaching, schedulingPolicy };
}

/** Throws a UsageError unless every limit is a whole number of at least 1 and the budget holds one token a sequence. */
export function checkLimits(limits: ExecutorLimits): void {
  for (const [name, value] of Object.entries(limits) as [string, number][]) {
    checkCount(name, value);
  }
  const { maxNumSeqs, maxNumBatchedTokens, maxInFlight, ppSize = 1 } = limits;
  const fewest = Math.min(maxInFlight, limits.maxLongInFlight ?? maxInFlight);
  if (fewest < ppSize) {
    const what = fewest < maxInFlight ? "maxLongInFlight" : "maxInFlight";
    const expected = `at least ppSize (${ppSize}), a plan for each stage`;
    throw new UsageError({ what, expected, got: fewest });
  }
  if (maxNumBatchedTokens < maxNumSeqs) {
    throw new UsageError({
      what: "maxNumBatchedTokens",
      expected: `at least maxNumSeqs (${maxNumSeqs}), one token for each running sequence`,
      got: maxNumBatchedTokens,
      remedy: "raise maxNumBatchedTokens or lower maxNumSeqs",
    });
  }
}

/** Throws a UsageError where the policy has no use for the priority. */
export function checkPolicy(policy: SchedulingPolicy, priority: number): void {
  if (policy === "priority" || priority === 0) return;
  throw new UsageError({
    what: "priority",
    expected: "0, since the scheduling policy is fcfs",
    got: priority,
    remedy: "start with --scheduling-policy priority",
  });
}

function checkCount(what: string, value: number): void {
  if (Number.isSafeInteger(value) && value >= 1) return;
  throw new UsageError({ what, expected: "a whole number of at least 1", got: value });
}
