/** One rank's handle on a group, as models see it: collectives are recorded, and run at replay. */
import type { Tensor } from "../device/device.ts";
import type { LaunchCounts } from "../device/liveCounts.ts";
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
export type LiveRows = (live: LaunchCounts) => number;

export interface AllToAllTensors {
  readonly x: Tensor; // [capacity, columns]: rows sorted by the rank that they go to
  readonly sendRows: Tensor; // [worldSize] u32: how many rows go to each rank
  /** Most rows that may arrive; more is an error that names both. */
  readonly maxRows: number;
}

export interface AllToAllResult {
  readonly out: Tensor; // [maxRows, columns]: rows from rank 0, then from rank 1, …
  readonly recvRows: Tensor; // [worldSize] u32: how many rows came from each rank
}

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
  /**
   * Sums x [capacity, columns] and leaves this rank the rows chunkRange(rows, worldSize, rank) of it:
   * [ceil(capacity / worldSize), columns]. With worldSize 1 returns x.
   */
  reduceScatter(rec: Recorder, label: string, x: Tensor, rows: LiveRows): Tensor;
  /**
   * The other half: x holds this rank's rows chunkRange(rows, worldSize, rank); returns all rows on
   * every rank, [capacity, columns]. With worldSize 1 returns x.
   */
  allGather(rec: Recorder, label: string, x: Tensor, rows: LiveRows, capacity: number): Tensor;
  /** The live rows of the root's x on every rank, in place. */
  broadcast(rec: Recorder, label: string, x: Tensor, root: number, rows: LiveRows): void;
  /** Rows to ranks, as many to each as sendRows says at replay. With worldSize 1 returns x. */
  allToAll(rec: Recorder, label: string, tensors: AllToAllTensors): AllToAllResult;
  /** Sends the live rows of x to a rank of this group. */
  send(rec: Recorder, label: string, x: Tensor, to: number): void;
  /** Receives the live rows of out from a rank of this group. */
  recv(rec: Recorder, label: string, out: Tensor, from: number): void;
  /**
   * Collects x of every rank on `root`: out [worldSize, ...x.shape] there, rows of rank r at r.
   * Elsewhere out is not touched and may be left out.
   */
  gather(rec: Recorder, label: string, x: Tensor, root: number, rows: LiveRows, out?: Tensor): void;
  /** Replay goes on once every rank has come here. */
  barrier(rec: Recorder, label: string): void;
  /** At once, from inside a running host operation: the root's bytes on every rank. */
  broadcastBytes(bytes: Uint8Array | undefined, root: number): Promise<Uint8Array>;
  /** At once, from inside a running host operation: every rank's bytes on the root, by rank. */
  gatherBytes(own: Uint8Array, root: number): Promise<readonly Uint8Array[] | undefined>;
}
