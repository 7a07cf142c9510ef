/** Checks every promise that StepPlan and ExecutorLimits make, over the plans in flight together. */
import { expect } from "vitest";
import type { ExecutorLimits } from "../../src/runtime/executor/executor.ts";
import { numLogitRows } from "../../src/runtime/promptRows.ts";
import { needsPenalties } from "../../src/runtime/samplingParams.ts";
import { numTokensOf, type ScheduledSequence, type StepPlan } from "../../src/runtime/stepPlan.ts";

// A slot's tenant: one sequence between admission and release.
interface Tenant {
  readonly name: string;
  readonly slot: number;
  readonly blocks: ReadonlySet<number>;
  /** Of these, blocks that it may write to in this plan or later. */
  readonly own: ReadonlySet<number>;
  /** Of its own, blocks that this plan does not fill. */
  readonly unfilled: ReadonlySet<number>;
}

/** Fed with each plan when it is made and when its output is taken. */
export class PlanChecker {
  readonly #limits: ExecutorLimits;
  readonly #inFlight: Tenant[][] = [];
  readonly #numTenants = new Map<number, number>(); // by slot
  readonly #lastSampled = new Map<number, number>(); // by slot: step
  readonly #nextPosition = new Map<number, number>(); // by slot
  #nextStepIndex = 0;
  /** What was seen, so that a test can tell that it tried something. */
  readonly seen = { maxInFlight: 0, mixedSteps: 0, chunks: 0, aheadDecodes: 0, hits: 0, bursts: 0 };
  readonly #isFollower: boolean[] = []; // of the plans in flight
  #burst: StepPlan | undefined;
  #numFollowersDue = 0;

  constructor(limits: ExecutorLimits) {
    this.#limits = limits;
  }

  planned(plan: StepPlan): void {
    expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
    expect(plan.stepIndex).toBe(this.#nextStepIndex++);
    this.#checkSizes(plan);
    this.#checkDependence(plan);
    const tenants = plan.sequences.map((sequence) => this.#tenant(sequence));
    const all = [...this.#inFlight.flat(), ...tenants];
    const newest = new Map(all.map((tenant) => [tenant.name, tenant]));
    for (const tenant of tenants) {
      for (const other of all.filter(({ name }) => name !== tenant.name)) {
        expect(other.slot, "a slot with two sequences in flight").not.toBe(tenant.slot);
        expect(other.blocks.isDisjointFrom(tenant.own), "a write into another's block").toBe(true);
        if (newest.get(other.name) !== other) continue;
        const unready = tenants.includes(other) ? other.own : other.unfilled;
        expect(unready.isDisjointFrom(tenant.blocks), "a read of a block not filled").toBe(true);
      }
    }
    this.#inFlight.push(tenants);
    this.seen.maxInFlight = Math.max(this.seen.maxInFlight, this.#inFlight.length);
    this.#isFollower.push(this.#checkBurst(plan));
    const numSubmits = this.#isFollower.filter((follows, i) => i === 0 || !follows).length;
    const isBurst = this.#burst !== undefined; // which may come on top
    expect(numSubmits).toBeLessThanOrEqual(this.#limits.maxInFlight + (isBurst ? 1 : 0));
  }

  returned(): void {
    this.#inFlight.shift();
    this.#isFollower.shift();
  }

  // Whether the plan follows in a burst, which then keeps its promise.
  #checkBurst(plan: StepPlan): boolean {
    const { numFollowers = 0 } = plan;
    if (this.#numFollowersDue > 0) {
      expect(numFollowers).toBe(0);
      expect(slotsOf(plan)).toEqual(slotsOf(this.#burst));
      this.#numFollowersDue -= 1;
    } else {
      this.#burst = numFollowers > 0 ? plan : undefined;
      this.#numFollowersDue = numFollowers;
      if (numFollowers > 0) this.seen.bursts += 1;
    }
    if (this.#burst === undefined) return false;
    expect(plan.sequences.filter((sequence) => !isFreeDecode(sequence))).toEqual([]);
    return plan !== this.#burst;
  }

  #checkSizes(plan: StepPlan): void {
    expect(numLogitRows(plan), "rows of logits").toBeLessThanOrEqual(this.#limits.maxNumSeqs);
    const { maxNumBatchedTokens, maxModelLen } = this.#limits;
    expect(plan.sequences.length).toBeGreaterThan(0);
    expect(numTokensOf(plan)).toBeLessThanOrEqual(maxNumBatchedTokens);
    expect(new Set(plan.sequences.map(({ slot }) => slot)).size).toBe(plan.sequences.length);
    const kinds = plan.sequences.map(kindOf);
    expect(kinds).toEqual([...kinds].sort());
    if (kinds.includes(0) && kinds.some((kind) => kind > 0)) this.seen.mixedSteps += 1;
    for (const sequence of plan.sequences) {
      expect(sequence.numTokens).toBe(sequence.tokenIds?.length ?? 1);
      expect(sequence.numTokens).toBeGreaterThan(0);
      this.#checkStart(sequence);
      expect(sequence.samplePosition).toBe(sequence.startPosition + sequence.numTokens);
      expect(sequence.samplePosition).toBeLessThan(maxModelLen);
      if (!sequence.samples) this.seen.chunks += 1;
    }
  }

  #checkStart(sequence: ScheduledSequence): void {
    const { slot, isFirst, startPosition, numTokens, sampling, cachedTokenIds } = sequence;
    if (!isFirst) expect(startPosition).toBe(this.#nextPosition.get(slot));
    else expect(startPosition % this.#limits.blockSize).toBe(0);
    if (isFirst && startPosition > 0) this.seen.hits += 1;
    const isHidden = isFirst && startPosition > 0 && needsPenalties(sampling);
    expect(cachedTokenIds?.length).toBe(isHidden ? startPosition : undefined);
    this.#nextPosition.set(slot, startPosition + numTokens);
  }

  #checkDependence(plan: StepPlan): void {
    const decodes = plan.sequences.filter(({ tokenIds }) => tokenIds === null);
    const sampledAt = decodes.map(({ slot }) => this.#lastSampled.get(slot) ?? Number.NaN);
    expect(plan.dependsOnStep).toBe(Math.max(-1, ...sampledAt));
    const oldestInFlight = plan.stepIndex - this.#inFlight.length;
    this.seen.aheadDecodes += sampledAt.filter((step) => step >= oldestInFlight).length;
    for (const { slot, samples } of plan.sequences) {
      if (samples) this.#lastSampled.set(slot, plan.stepIndex);
    }
  }

  #tenant(sequence: ScheduledSequence): Tenant {
    const { slot, isFirst, blockTable, startPosition, samplePosition } = sequence;
    const { maxNumSeqs, numBlocks, blockSize } = this.#limits;
    expect(slot).toBeGreaterThanOrEqual(0);
    expect(slot).toBeLessThan(maxNumSeqs);
    expect(blockTable.length * blockSize).toBeGreaterThanOrEqual(samplePosition);
    const blocks = new Set(blockTable);
    expect(blocks.size).toBe(blockTable.length);
    for (const block of blocks) expect(block >= 0 && block < numBlocks).toBe(true);
    const number = (this.#numTenants.get(slot) ?? 0) + (isFirst ? 1 : 0);
    this.#numTenants.set(slot, number);
    const own = new Set(blockTable.slice(Math.floor(startPosition / blockSize)));
    const unfilled = new Set(blockTable.slice(Math.floor(samplePosition / blockSize)));
    return { name: `${slot}.${number}`, slot, blocks, own, unfilled };
  }
}

function slotsOf(plan: StepPlan | undefined): number[] {
  return plan?.sequences.map(({ slot }) => slot) ?? [];
}

function isFreeDecode(sequence: ScheduledSequence): boolean {
  const { tokenIds, samples, sampling, logitBias, bannedTokenIds, allowedTokens } = sequence;
  const isEdited = [logitBias, bannedTokenIds, allowedTokens].some((edit) => edit !== undefined);
  const isFree = !isEdited && !needsPenalties(sampling) && sequence.numLogprobs === undefined;
  return tokenIds === null && samples && isFree;
}

// Sorts as a plan must: decodes, prefill chunks of one token, longer ones.
function kindOf({ tokenIds, numTokens }: ScheduledSequence): number {
  if (tokenIds === null) return 0;
  return numTokens === 1 ? 1 : 2;
}
