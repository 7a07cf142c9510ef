/** Reduce-scatter: rank r ends with chunk r (schedules.ts, chunkRange) of the sum of all ranks' x. */
import { addInto, bytesOfArray, floatsOf } from "./floats.ts";
import type { Operation } from "./operation.ts";
import { chunkRange, ringReduceScatter } from "./schedules.ts";

/** Works in place: of x only chunk `rank` is meaningful afterwards. */
export async function reduceScatterRing(operation: Operation, x: Float32Array): Promise<void> {
  const { rank, worldSize } = operation;
  for (const { to, sendChunk, from, recvChunk } of ringReduceScatter(rank, worldSize)) {
    const outgoing = chunkRange(x.length, worldSize, sendChunk);
    const incoming = chunkRange(x.length, worldSize, recvChunk);
    const addPart = ({ bytes, offset }: { bytes: Uint8Array; offset: number }): void => {
      addInto(x, incoming.begin + offset / 4, floatsOf(bytes));
    };
    await Promise.all([
      operation.recv(from, addPart, 4 * (incoming.end - incoming.begin)),
      operation.send(to, bytesOfArray(x.subarray(outgoing.begin, outgoing.end))),
    ]);
  }
}
