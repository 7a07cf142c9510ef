/**
 * Measured crossovers of the all-reduce, by transport and number of ranks; `node bench/tuneCollectives.ts`
 * measures again and prints rows for this file.
 *
 * Setting: Node 24, ranks as worker threads on 2 cores of an AMD EPYC with nothing else to do; medians of two or three
 * runs, which differ by a third. With a core a rank, fewer steps count for more: expect oneShot to reach
 * further. Between 2 ranks of shared memory ring and halvingDoubling are the same. loopback has all ranks in one
 * thread; its row is set for sums on the devices, which cost the host no time.
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
    { worldSize: 2, oneShot: 256 * KiB, recursiveDoubling: 0, halvingDoubling: 0 },
    {
      worldSize: 4,
      oneShot: 64 * KiB,
      recursiveDoubling: 128 * KiB,
      halvingDoubling: 65_536 * KiB,
    },
    {
      worldSize: Infinity,
      oneShot: 64 * KiB,
      recursiveDoubling: 128 * KiB,
      halvingDoubling: 16_384 * KiB,
    },
  ],
  tcp: [
    { worldSize: 2, oneShot: 128 * KiB, recursiveDoubling: 0, halvingDoubling: 16_384 * KiB },
    {
      worldSize: Infinity,
      oneShot: 0,
      recursiveDoubling: 128 * KiB,
      halvingDoubling: 16_384 * KiB,
    },
  ],
};
