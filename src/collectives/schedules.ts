/**
 * Who sends which chunk to whom, and when: pure functions of rank and worldSize, tested without data.
 *
 * A ring all-reduce is a ring reduce-scatter, after which rank r holds the whole sum of chunk r, and a
 * ring all-gather that starts from there (Patarasuk & Yuan 2009, doi:10.1016/j.jpdc.2008.09.002).
 */

/** Half-open range of elements. */
export interface ChunkRange {
  readonly begin: number;
  readonly end: number;
}

/** One rank's part of one step: it sends a chunk and receives another at the same time. */
export interface RingStep {
  readonly to: number;
  readonly sendChunk: number;
  readonly from: number;
  readonly recvChunk: number;
}

/** Chunk `index` of `length` elements cut into `worldSize` runs that differ by at most one, longer first. */
export function chunkRange(length: number, worldSize: number, index: number): ChunkRange {
  const base = Math.floor(length / worldSize);
  const numLonger = length - base * worldSize;
  const begin = index * base + Math.min(index, numLonger);
  return { begin, end: begin + base + (index < numLonger ? 1 : 0) };
}

/** worldSize - 1 steps, each adding the arriving chunk to this rank's own; ends with chunk `rank` summed. */
export function ringReduceScatter(rank: number, worldSize: number): RingStep[] {
  return ringSteps(rank, worldSize, rank - 1);
}

/** worldSize - 1 steps, each keeping the arriving chunk; starts with chunk `rank` known. */
export function ringAllGather(rank: number, worldSize: number): RingStep[] {
  return ringSteps(rank, worldSize, rank);
}

/** The ranks a one-shot exchange publishes to, and receives from in this order. */
export function oneShotPeers(rank: number, worldSize: number): number[] {
  return Array.from({ length: worldSize }, (_, peer) => peer).filter((peer) => peer !== rank);
}

/** Each rank passes to the right what it received from the left one step before. */
function ringSteps(rank: number, worldSize: number, firstChunk: number): RingStep[] {
  const wrap = (index: number): number => ((index % worldSize) + worldSize) % worldSize;
  return Array.from({ length: Math.max(0, worldSize - 1) }, (_, step) => ({
    to: wrap(rank + 1),
    sendChunk: wrap(firstChunk - step),
    from: wrap(rank - 1),
    recvChunk: wrap(firstChunk - step - 1),
  }));
}
