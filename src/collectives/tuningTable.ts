/**
 * Measured crossovers of the all-reduce, by transport and number of ranks. Made again by
 * `node bench/tuneCollectives.ts --write`, which keeps the figures behind it in bench/results.
 *
 * Setting: Node 24 on 2 cores (AMD EPYC), ranks as worker threads, median of a run; loopback: all ranks
 * in one thread, whose row is set for sums on the devices, which cost the host no time.
 */
import type { TransportKind } from "./transport/transport.ts";

/** Up to `worldSize` ranks: oneShot up to `oneShotBytes`, halvingDoubling up to `doublingBytes`, then ring. */
export interface TuningRow {
  readonly worldSize: number;
  readonly oneShotBytes: number;
  readonly doublingBytes: number;
}

const KiB = 1024;

export const ALL_REDUCE_TABLE: Readonly<Record<TransportKind, readonly TuningRow[]>> = {
  loopback: [{ worldSize: Infinity, oneShotBytes: 64 * KiB, doublingBytes: 0 }],
  sharedMemory: [
    { worldSize: 4, oneShotBytes: 64 * KiB, doublingBytes: 0 },
    { worldSize: Infinity, oneShotBytes: 32 * KiB, doublingBytes: 0 },
  ],
  tcp: [{ worldSize: Infinity, oneShotBytes: 64 * KiB, doublingBytes: 0 }],
};
