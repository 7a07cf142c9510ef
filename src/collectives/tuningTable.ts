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

/**
 * Sums of ranks of one process on their devices: oneShot up to so many bytes, twoShot above. The host copies
 * n times the bytes for oneShot and 3 times for twoShot, which has one more round trip of the GPU, some
 * 150 to 200 µs or 1 MiB of copying at 6 GB/s: (n - 3) x bytes of 1 MiB are the crossover.
 */
export const DEVICE_TABLE: readonly Pick<TuningRow, "worldSize" | "oneShot">[] = [
  { worldSize: 3, oneShot: Infinity },
  { worldSize: 4, oneShot: 1024 * KiB },
  { worldSize: Infinity, oneShot: 256 * KiB },
];
