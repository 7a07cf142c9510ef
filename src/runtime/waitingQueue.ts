/**
 * Requests that hold nothing yet, by rank: priority (lower first, as in vLLM), then arrival. So that a
 * stream of urgent requests starves nobody, each lets only so many later arrivals pass: then it is overdue,
 * and comes before all that are not, the earliest first. Preemption ranks in the same way.
 */
import type { Sequence } from "./sequence.ts";

/** Negative if a goes first. */
export function compareRank(a: Sequence, b: Sequence): number {
  if (a.isOverdue !== b.isOverdue) return a.isOverdue ? -1 : 1;
  const byPriority = a.isOverdue ? 0 : a.request.priority - b.request.priority;
  return byPriority === 0 ? a.arrivalIndex - b.arrivalIndex : byPriority;
}

/** Once its leader's prompt is in the cache, its own is found there; meanwhile others may pass it. */
export function isAwaitingLeader({ leader }: Sequence, stepIndex: number): boolean {
  if (leader === null) return false;
  const { status, numPrefillLeft, prefilledAtStep } = leader;
  if (status === "waiting") return true;
  return status === "running" && (numPrefillLeft > 0 || prefilledAtStep === stepIndex);
}

export class WaitingQueue {
  readonly #maxOvertakes: number;
  readonly #sequences: Sequence[] = []; // by rank

  /** A sequence is overdue once maxOvertakes later arrivals were admitted before it. */
  constructor(maxOvertakes: number) {
    this.#maxOvertakes = maxOvertakes;
  }

  get length(): number {
    return this.#sequences.length;
  }

  /** The first by rank that `isReady`. */
  first(isReady: (sequence: Sequence) => boolean): Sequence | undefined {
    return this.#sequences.find(isReady);
  }

  add(sequence: Sequence): void {
    const after = this.#sequences.findLastIndex((other) => compareRank(other, sequence) < 0);
    this.#sequences.splice(after + 1, 0, sequence);
  }

  /** Of no effect if it does not wait. */
  remove(sequence: Sequence): void {
    const index = this.#sequences.indexOf(sequence);
    if (index >= 0) this.#sequences.splice(index, 1);
  }

  /** Takes out a sequence that is admitted, past whoever came before it. */
  admit(sequence: Sequence): void {
    this.remove(sequence);
    let isReordered = false;
    for (const other of this.#sequences) {
      if (other.arrivalIndex > sequence.arrivalIndex) continue;
      other.numOvertakes += 1;
      if (other.isOverdue || other.numOvertakes < this.#maxOvertakes) continue;
      other.isOverdue = true;
      isReordered = true;
    }
    if (isReordered) this.#sequences.sort(compareRank);
  }

  /** Prompt tokens that wait, counted up to `limit`. */
  numTokens(limit: number): number {
    let sum = 0;
    for (const { tokenIds } of this.#sequences) {
      if (sum >= limit) break;
      sum += tokenIds.length;
    }
    return sum;
  }
}
