/**
 * Measured crossovers of the all-reduce, by transport and number of ranks; `node bench/tuneCollectives.ts`
 * measures again and prints rows for this file.
 *
 * Setting: Node 24, ranks as worker threads, 2 cores of an AMD EPYC that other work used too, so the 10th
 * percentile counts; with more ranks than cores. On a machine with a core a rank oneShot reaches further.
 * loopback has all ranks in one thread; its row is set for sums on the devices, which cost no host time.
 */
import type { TransportKind } from "./transport/transport.ts";

/** For up to `worldSize` ranks: each algorithm up to so many bytes, in this order, and a ring above. */
export interface TuningRow {
  readonly worldSize: number;
  readonly oneShot: number;
  readonly recursiveDoubling: number;
  readonly halvingDoubling: number;
}

const KiB = 1024;

export const ALL_REDUCE_TABLE: Readonly<Record<TransportKind, readonly TuningRow[]>> = {
  loopback: [{ worldSize: Infinity, oneShot: 64 * KiB, recursiveDoubling: 0, halvingDoubling: 0 }],
  sharedMemory: [
    { worldSize: 2, oneShot: 32 * KiB, recursiveDoubling: 0, halvingDoubling: 128 * KiB },
    { worldSize: 4, oneShot: 32 * KiB, recursiveDoubling: 0, halvingDoubling: 128 * KiB },
    {
      worldSize: Infinity,
      oneShot: 16 * KiB,
      recursiveDoubling: 64 * KiB,
      halvingDoubling: 128 * KiB,
    },
  ],
  tcp: [
    { worldSize: 2, oneShot: 32 * KiB, recursiveDoubling: 0, halvingDoubling: 128 * KiB },
    { worldSize: Infinity, oneShot: 0, recursiveDoubling: 64 * KiB, halvingDoubling: 128 * KiB },
  ],
};
