/** Which replica gets a request: a pure choice from what is known about each. */

/** One replica that can take requests. */
export interface RouteCandidate {
  readonly numRunning: number;
  readonly numWaiting: number;
  /** Sequences it runs at once. */
  readonly maxNumSeqs: number;
  /** Used part of its KV cache, 0 to 1. */
  readonly kvUsage: number;
  /** Part of this prompt that it computed before, 0 to 1. */
  readonly prefixSeen: number;
  /** Requests it was given so far; breaks ties. */
  readonly numRouted: number;
}

/**
 * A known prefix is worth this much load: one full batch in the queue outweighs even a prompt that is
 * wholly known, since recomputing a prefix costs a step or so and a full queue costs many.
 */
const PREFIX_WEIGHT = 0.75;

/** Lower is better: queue and batch in units of full batches, KV usage, less what the prefix saves. */
function costOf(candidate: RouteCandidate): number {
  const { numRunning, numWaiting, maxNumSeqs, kvUsage, prefixSeen } = candidate;
  return (numRunning + 2 * numWaiting) / maxNumSeqs + kvUsage - PREFIX_WEIGHT * prefixSeen;
}

/** The cheapest; of equals the one given the fewest requests. Undefined only without candidates. */
export function chooseReplica<T extends RouteCandidate>(candidates: readonly T[]): T | undefined {
  return candidates.reduce<T | undefined>((best, candidate) => {
    if (best === undefined) return candidate;
    const difference = costOf(candidate) - costOf(best);
    const isTie = Math.abs(difference) < 1e-9;
    const isBetter = isTie ? candidate.numRouted < best.numRouted : difference < 0;
    return isBetter ? candidate : best;
  }, undefined);
}
