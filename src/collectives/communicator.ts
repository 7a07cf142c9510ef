/** One rank's handle on a group, as models see it: collectives are recorded, and run at replay. */
import type { Tensor } from "../device/device.ts";
import type { LiveCounts } from "../device/liveCounts.ts";
import type { Recorder } from "../device/recorder.ts";

/**
 * A deferred sum: `count` partials, `strideElements` apart in `tensor`, to be added in rank order by
 * the kernel that next reads them (sumResidualNorm, addPartials). The small all-reduce then costs no
 * launch of its own.
 */
export interface Reduction {
  readonly tensor: Tensor; // count x [rows, columns], strideElements apart
  readonly count: number;
  readonly strideElements: number;
}

/** Live rows of a recorded tensor in this step. */
export type LiveRows = (live: LiveCounts) => number;

export interface Communicator {
  /** This rank's number in the group. */
  readonly rank: number;
  readonly worldSize: number;
  /**
   * Sums [rows, columns] over the group. `produce` records the kernel that writes this rank's partial
   * into the tensor it is given. With worldSize 1 nothing but `produce` is recorded.
   */
  allReduce(
    rec: Recorder,
    label: string,
    shape: readonly [rows: number, columns: number],
    produce: (partial: Tensor) => void,
  ): Reduction;
  /** Sends the live rows of x to a rank of this group. */
  send(rec: Recorder, label: string, x: Tensor, to: number): void;
  /** Receives the live rows of out from a rank of this group. */
  recv(rec: Recorder, label: string, out: Tensor, from: number): void;
  /**
   * Collects x of every rank on `root`: out [worldSize, ...x.shape] there, rows of rank r at r.
   * Elsewhere out is not touched and may be left out.
   */
  gather(rec: Recorder, label: string, x: Tensor, root: number, rows: LiveRows, out?: Tensor): void;
  /** At once, from inside a running host operation: the root's bytes on every rank. */
  broadcastBytes(bytes: Uint8Array | undefined, root: number): Promise<Uint8Array>;
  /** At once, from inside a running host operation: every rank's bytes on the root, by rank. */
  gatherBytes(own: Uint8Array, root: number): Promise<readonly Uint8Array[] | undefined>;
}
