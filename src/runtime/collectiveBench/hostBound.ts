/** What copying alone allows: the bound of collectives over shared memory. */
import type { HostCommunicator } from "../../collectives/hostCommunicator.ts";
import type { BenchOp } from "./benchPlan.ts";
import { timeTogether } from "./timing.ts";

/** As the transport does: a message goes through a slot of this size. */
const SLOT_BYTES = 256 * 1024;
const MAX_BYTES = 256 * 1024 * 1024;

/** Rates in GB/s with all ranks copying at once, measured once a size. */
export class HostBound {
  readonly #control: HostCommunicator;
  readonly #budgetMs: number;
  readonly #bothWays = new Map<number, number>();

  constructor(control: HostCommunicator, budgetMs: number) {
    this.#control = control;
    this.#budgetMs = budgetMs;
  }

  /**
   * The busbw that copies alone would allow: each byte that a rank sends goes into shared memory, each
   * that it receives comes out. A root that only sends (or receives) has half of that to do.
   */
  async busbwGBps(op: BenchOp, sizeBytes: number): Promise<number> {
    const bothWays = await this.copyGBps(sizeBytes);
    return op === "broadcast" || op === "gather" ? 2 * bothWays : bothWays;
  }

  /** Bytes a second that go through shared memory: in, and out again. All ranks call it. */
  async copyGBps(sizeBytes: number): Promise<number> {
    const known = this.#bothWays.get(sizeBytes);
    if (known !== undefined) return known;
    const numBytes = Math.min(Math.max(sizeBytes, 4), MAX_BYTES);
    const plain = new Uint8Array(numBytes).fill(1);
    const slot = new Uint8Array(new SharedArrayBuffer(Math.min(SLOT_BYTES, numBytes)));
    const copy = (): Promise<void> => {
      for (let at = 0; at < numBytes; at += slot.length) {
        const part = plain.subarray(at, at + slot.length);
        slot.set(part);
        plain.set(slot.subarray(0, part.length), at);
      }
      return Promise.resolve();
    };
    const { medianUs } = await timeTogether(this.#control, this.#budgetMs, copy);
    const rate = numBytes / (medianUs * 1e3);
    this.#bothWays.set(sizeBytes, rate);
    return rate;
  }
}
