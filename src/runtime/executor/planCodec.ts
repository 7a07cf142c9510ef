/**
 * Step plans on their way to a rank's thread. A running sequence's block table and sampling parameters are
 * the same from step to step but for a block now and then, yet a plan names them whole: both ends keep
 * what each slot had, and only what is new travels. So a step's message does not grow with the context.
 */
import { WorkerError } from "../../common/errors.ts";
import type { ScheduledSequence, StepPlan } from "../stepPlan.ts";

/** A part as it travels. */
interface WireSequence extends Omit<ScheduledSequence, "blockTable" | "sampling"> {
  /** Present where the slot starts anew: what it had before counts no more. */
  readonly whole?: Pick<ScheduledSequence, "blockTable" | "sampling">;
  /** Else the blocks after those that the slot's last part had. */
  readonly newBlocks?: readonly number[];
}

/** A plan as it travels: plain data, for one rank, to be decoded in the order in which it was encoded. */
export interface WirePlan extends Omit<StepPlan, "sequences"> {
  readonly sequences: readonly WireSequence[];
}

interface SentSlot {
  readonly numBlocks: number;
  readonly lastBlock: number | undefined;
  readonly sampling: ScheduledSequence["sampling"];
}

/** The sender's end. */
export class PlanEncoder {
  readonly #slots = new Map<number, SentSlot>();

  encode(plan: StepPlan): WirePlan {
    return { ...plan, sequences: plan.sequences.map((sequence) => this.#encode(sequence)) };
  }

  #encode(sequence: ScheduledSequence): WireSequence {
    const { blockTable, sampling, ...rest } = sequence;
    const sent = sequence.isFirst ? undefined : this.#slots.get(sequence.slot);
    const [numBlocks, lastBlock] = [blockTable.length, blockTable.at(-1)];
    this.#slots.set(sequence.slot, { numBlocks, lastBlock, sampling });
    // A table only grows while its sequence runs; of a plan made otherwise all goes again.
    const isGrown = sent !== undefined && blockTable[sent.numBlocks - 1] === sent.lastBlock;
    if (!isGrown || sent.sampling !== sampling) return { ...rest, whole: { blockTable, sampling } };
    if (numBlocks === sent.numBlocks) return rest;
    return { ...rest, newBlocks: blockTable.slice(sent.numBlocks) };
  }
}

/** The rank's end. Plans share their slot's table, which later ones lengthen: "may reach further". */
export class PlanDecoder {
  readonly #slots = new Map<number, { blockTable: number[]; sampling: ScheduledSequence["sampling"] }>(); // prettier-ignore

  /** Throws a WorkerError for a part whose beginning it has not seen. */
  decode(plan: WirePlan): StepPlan {
    return { ...plan, sequences: plan.sequences.map((sequence) => this.#decode(sequence)) };
  }

  #decode({ whole, newBlocks = [], ...rest }: WireSequence): ScheduledSequence {
    if (whole !== undefined) {
      this.#slots.set(rest.slot, { ...whole, blockTable: [...whole.blockTable] });
    }
    const kept = this.#slots.get(rest.slot);
    if (kept === undefined) throw new WorkerError(`step plan: slot ${rest.slot} has no beginning`);
    kept.blockTable.push(...newBlocks);
    return { ...rest, ...kept };
  }
}
