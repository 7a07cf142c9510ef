/**
 * Who sends which chunks to whom, and when: pure functions of rank and worldSize, tested without data.
 *
 * ring             n-1 steps of reduce-scatter, then n-1 of all-gather; 2(n-1)/n of the bytes
 *                  (Patarasuk & Yuan 2009, doi:10.1016/j.jpdc.2008.09.002)
 * halvingDoubling  recursive halving, then recursive doubling: the same bytes in 2 log2 n steps
 * recursiveDoubling  log2 n exchanges of the whole: fewest steps, log2 n times the bytes
 *                  (both: Thakur, Rabenseifner & Gropp 2005, doi:10.1177/1094342005051521)
 *
 * The last two work on the largest power of two p <= n. The n - p ranks above fold in: each first gives
 * its data to the rank p below it, and gets the result from it at the end.
 */

/** Half-open range, of elements or of chunks. */
export interface ChunkRange {
  readonly begin: number;
  readonly end: number;
}

/** One rank's part of one step: what it sends and what it receives, at the same time. */
export interface ScheduleStep {
  readonly send?: {
    readonly to: number;
    readonly chunks: ChunkRange;
    /** Whole sums, equal on every rank from here on; otherwise partial ones. */
    readonly isFinal: boolean;
  };
  readonly recv?: {
    readonly from: number;
    readonly chunks: ChunkRange;
    /** `add`: a partial sum joins this rank's; `replace`: a final value takes its place. */
    readonly combine: "add" | "replace";
  };
}

/** Chunk `index` of `length` elements cut into `numChunks` runs that differ by at most one, longer first. */
export function chunkRange(length: number, numChunks: number, index: number): ChunkRange {
  const base = Math.floor(length / numChunks);
  const numLonger = length - base * numChunks;
  const begin = index * base + Math.min(index, numLonger);
  return { begin, end: begin + base + (index < numLonger ? 1 : 0) };
}

/** The ranks a one-shot exchange publishes to, and receives from in this order. */
export function oneShotPeers(rank: number, worldSize: number): number[] {
  return Array.from({ length: worldSize }, (_, peer) => peer).filter((peer) => peer !== rank);
}

/** worldSize - 1 steps over worldSize chunks; ends with chunk `rank` summed. */
export function ringReduceScatter(rank: number, worldSize: number): ScheduleStep[] {
  return ringSteps(rank, worldSize, rank - 1, "add");
}

/** worldSize - 1 steps over worldSize chunks; starts with chunk `rank` final. */
export function ringAllGather(rank: number, worldSize: number): ScheduleStep[] {
  return ringSteps(rank, worldSize, rank, "replace");
}

/** Each rank passes to the right what it received from the left one step before. */
export function ringAllReduce(rank: number, worldSize: number): ScheduleStep[] {
  return [...ringReduceScatter(rank, worldSize), ...ringAllGather(rank, worldSize)];
}

function ringSteps(
  rank: number,
  worldSize: number,
  firstChunk: number,
  combine: "add" | "replace",
): ScheduleStep[] {
  const wrap = (index: number): number => ((index % worldSize) + worldSize) % worldSize;
  const one = (index: number): ChunkRange => ({ begin: wrap(index), end: wrap(index) + 1 });
  return Array.from({ length: Math.max(0, worldSize - 1) }, (_, step) => ({
    send: { to: wrap(rank + 1), chunks: one(firstChunk - step), isFinal: combine === "replace" },
    recv: { from: wrap(rank - 1), chunks: one(firstChunk - step - 1), combine },
  }));
}

/** The largest power of two that is at most `worldSize`: the ranks that do not fold in. */
export function coreSize(worldSize: number): number {
  return 2 ** Math.floor(Math.log2(worldSize));
}

/** The partners of a core rank in the exchanges of recursive doubling: distances 1, 2, 4, … */
export function doublingPartners(rank: number, worldSize: number): number[] {
  const numSteps = Math.log2(coreSize(worldSize));
  return Array.from({ length: numSteps }, (_, step) => rank ^ (2 ** step));
}

/** Over coreSize(worldSize) chunks. */
export function halvingDoubling(rank: number, worldSize: number): ScheduleStep[] {
  const core = coreSize(worldSize);
  const all: ChunkRange = { begin: 0, end: core };
  if (rank >= core) {
    const partner = rank - core;
    return [
      { send: { to: partner, chunks: all, isFinal: false } },
      { recv: { from: partner, chunks: all, combine: "replace" } },
    ];
  }
  const folded = rank + core < worldSize ? rank + core : undefined;
  const halving = halvingSteps(rank, core);
  const doubling = halving.toReversed().map(({ send, recv }) => ({
    send: { to: recv.from, chunks: recv.chunks, isFinal: true },
    recv: { from: send.to, chunks: send.chunks, combine: "replace" as const },
  }));
  const inCore = [...halving, ...doubling];
  if (folded === undefined) return inCore;
  return [
    { recv: { from: folded, chunks: all, combine: "add" } },
    ...inCore,
    { send: { to: folded, chunks: all, isFinal: true } },
  ];
}

/** At each step a rank keeps the half that its own chunk is in and sends the other half. */
function halvingSteps(rank: number, core: number): Required<ScheduleStep>[] {
  const steps: Required<ScheduleStep>[] = [];
  let [begin, end] = [0, core];
  for (let distance = core / 2; distance >= 1; distance /= 2) {
    const middle = begin + distance;
    const [lower, upper] = [
      { begin, end: middle },
      { begin: middle, end },
    ];
    const isLower = rank < middle;
    const partner = rank ^ distance;
    const [kept, sent] = isLower ? [lower, upper] : [upper, lower];
    steps.push({
      send: { to: partner, chunks: sent, isFinal: false },
      recv: { from: partner, chunks: kept, combine: "add" },
    });
    [begin, end] = [kept.begin, kept.end];
  }
  return steps;
}

/** Where a rank stands in a two-level all-reduce: over its host's ranks, then across hosts. */
export interface TwoLevelPlan {
  /** Group ranks on this rank's host, in rank order. */
  readonly local: readonly number[];
  /** Shards of the sum: as many as the smallest host has ranks. Local rank j < numShards owns shard j. */
  readonly numShards: number;
  /** This rank's shard, or undefined where its host has more ranks than there are shards. */
  readonly shard: number | undefined;
  /** The owners of the same shard on all hosts, in order of host; empty for a rank without a shard. */
  readonly across: readonly number[];
}

/** `hosts[rank]` says where each rank lives. Each byte crosses between two hosts once, as a shard's partial. */
export function twoLevelPlan(rank: number, hosts: readonly number[]): TwoLevelPlan {
  const byHost = [...Map.groupBy(hosts.keys(), (member) => hosts[member] ?? 0).entries()];
  const members = byHost.sort(([a], [b]) => a - b).map(([, ranks]) => ranks);
  const numShards = Math.min(...members.map((ranks) => ranks.length));
  const local = members.find((ranks) => ranks.includes(rank)) ?? [rank];
  const localRank = local.indexOf(rank);
  const shard = localRank < numShards ? localRank : undefined;
  const across = shard === undefined ? [] : members.map((ranks) => ranks[shard] ?? 0);
  return { local, numShards, shard, across };
}
