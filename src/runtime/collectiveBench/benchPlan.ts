/** What `bench collectives` measures: operations, algorithms, sizes, and the rows that come of it. */
import { type Algorithm, ALGORITHMS } from "../../collectives/signature.ts";

/** nccl-tests' names. */
export const BENCH_OPS = [
  "all_reduce",
  "reduce_scatter",
  "all_gather",
  "broadcast",
  "gather",
  "all_to_all",
  "send_recv",
  "barrier",
] as const;
export type BenchOp = (typeof BENCH_OPS)[number];

/** What --algorithms takes. */
export const BENCH_ALGORITHMS: readonly Algorithm[] = ALGORITHMS;

/** sharedMemory and tcp: a thread a rank. loopback: all ranks in one thread. */
export const BENCH_TRANSPORTS = ["sharedMemory", "tcp", "loopback"] as const;
export type BenchTransport = (typeof BENCH_TRANSPORTS)[number];

/** host: typed arrays. device: WebGPU buffers, recorded and replayed as in a step. */
export const BENCH_MEMORIES = ["host", "device"] as const;
export type BenchMemory = (typeof BENCH_MEMORIES)[number];

export interface BenchOptions {
  readonly ranks: readonly number[];
  /** Bytes, as nccl-tests counts them: the largest buffer that a rank gives or gets. */
  readonly sizes: readonly number[];
  readonly ops: readonly BenchOp[];
  /** Of each operation those that it has; operations with a single way always run. */
  readonly algorithms: readonly Algorithm[];
  readonly transports: readonly BenchTransport[];
  readonly memories: readonly BenchMemory[];
  /** Positions in the device list, dealt to ranks in order, cyclically; null for all of the best kind. */
  readonly devices: readonly number[] | null;
  /** Time for the repeats of one case. */
  readonly budgetMs: number;
  /** Also the stages of the decode-sized all-reduce on devices. */
  readonly breakdown: boolean;
}

const KiB = 1024;
const MiB = 1024 * KiB;

export const DEFAULT_BENCH_OPTIONS: BenchOptions = {
  ranks: [2, 3, 4, 5, 6, 7, 8],
  sizes: [
    ...[8, 64, 512, 4 * KiB, 16 * KiB, 64 * KiB, 256 * KiB],
    ...[1, 4, 16, 64, 256].map((size) => size * MiB),
  ],
  ops: BENCH_OPS,
  algorithms: ALGORITHMS,
  transports: ["sharedMemory"],
  memories: BENCH_MEMORIES,
  devices: null,
  budgetMs: 20,
  breakdown: false,
};

/** One measurement of one world. */
export interface BenchCase {
  readonly op: BenchOp;
  readonly algorithm: Algorithm;
  readonly sizeBytes: number;
}

/** One line of the table, nccl-tests' columns with the bound beside them. GB/s are 1e9 bytes a second. */
export interface CollectiveRow {
  readonly op: BenchOp;
  readonly algorithm: Algorithm;
  readonly transport: BenchTransport;
  readonly memory: BenchMemory;
  readonly ranks: number;
  readonly sizeBytes: number;
  /** Elements. */
  readonly count: number;
  readonly type: "f32";
  readonly redop: "sum" | "none";
  /** Median over batches of back-to-back calls, of the slowest rank. */
  readonly timeUs: number;
  readonly algbwGBps: number;
  readonly busbwGBps: number;
  /** What busbw would be if nothing but the copies (host) or one rank's round trip (device) took time. */
  readonly boundGBps: number;
  /** Elements that were not what they should be, over all ranks. */
  readonly wrong: number;
}

const WAYS: Readonly<Partial<Record<BenchOp, readonly Algorithm[]>>> = {
  all_reduce: ALGORITHMS,
  reduce_scatter: ["oneShot", "ring"],
  all_gather: ["oneShot", "ring"],
};

/** Recorded collectives leave the choice to the table, but for the all-reduce. */
const DEVICE_WAYS: typeof WAYS = { ...WAYS, all_gather: ["oneShot"] };

/** The cases of one world, sizes ascending within each operation and algorithm. */
export function casesOf(options: BenchOptions, memory: BenchMemory): BenchCase[] {
  const ways = memory === "host" ? WAYS : DEVICE_WAYS;
  const sizes = [...options.sizes].sort((a, b) => a - b);
  return options.ops.flatMap((op) => {
    const named = ways[op]?.filter((algorithm) => options.algorithms.includes(algorithm));
    const algorithms = named ?? (["oneShot"] as const);
    const sizesOfOp = op === "barrier" ? [0] : sizes;
    return algorithms.flatMap((algorithm) =>
      sizesOfOp.map((sizeBytes) => ({ op, algorithm, sizeBytes })),
    );
  });
}

/**
 * busbw over algbw: the share of the size that a rank must send and receive at least, so that busbw
 * compares with the hardware whatever the operation (nccl-tests, doc/PERFORMANCE.md).
 */
export function busFactor(op: BenchOp, worldSize: number): number {
  switch (op) {
    case "all_reduce":
      return (2 * (worldSize - 1)) / worldSize;
    case "reduce_scatter":
    case "all_gather":
    case "all_to_all":
    case "gather":
      return (worldSize - 1) / worldSize;
    case "broadcast":
    case "send_recv":
    case "barrier":
      return 1;
  }
}

/** Host bytes that a case takes over all ranks: inputs, outputs, and what the algorithm keeps. */
export function hostBytesOf({ op, algorithm, sizeBytes }: BenchCase, worldSize: number): number {
  const copies = op === "all_reduce" && algorithm === "ring" ? 1 : 3;
  return copies * worldSize * sizeBytes;
}

export interface RowInput extends BenchCase {
  readonly transport: BenchTransport;
  readonly memory: BenchMemory;
  readonly ranks: number;
  readonly count: number;
  readonly timeUs: number;
  readonly boundGBps: number;
  readonly wrong: number;
}

export function rowOf(input: RowInput): CollectiveRow {
  const { op, algorithm, transport, memory, ranks, sizeBytes, count } = input;
  const algbwGBps = sizeBytes / (input.timeUs * 1e3);
  const isSum = op === "all_reduce" || op === "reduce_scatter";
  return {
    ...{ op, algorithm, transport, memory, ranks, sizeBytes, count },
    type: "f32",
    redop: isSum ? "sum" : "none",
    timeUs: input.timeUs,
    algbwGBps,
    busbwGBps: algbwGBps * busFactor(op, ranks),
    boundGBps: input.boundGBps,
    wrong: input.wrong,
  };
}
