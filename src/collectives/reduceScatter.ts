/** Reduce-scatter: rank r ends with chunk r (schedules.ts, chunkRange) of the sum of all ranks' x. */
import { Accumulator, bytesOfArray } from "./floats.ts";
import type { Operation } from "./operation.ts";
import { chunkRange, ringReduceScatter } from "./schedules.ts";

/** Works in place: of x only chunk `rank` is meaningful afterwards. */
export async function reduceScatterRing(operation: Operation, x: Float32Array): Promise<void> {
  const { rank, worldSize } = operation;
  for (const { to, sendChunk, from, recvChunk } of ringReduceScatter(rank, worldSize)) {
    const outgoing = chunkRange(x.length, worldSize, sendChunk);
    const incoming = chunkRange(x.length, worldSize, recvChunk);
    const { add } = new Accumulator(x, incoming.begin);
    await Promise.all([
      operation.recv(from, add, 4 * (incoming.end - incoming.begin)),
      operation.send(to, bytesOfArray(x.subarray(outgoing.begin, outgoing.end))),
    ]);
  }
}
