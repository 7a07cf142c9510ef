/** All-gather: every rank ends with all ranks' parts, in rank order. */
import { bytesOfArray } from "./floats.ts";
import type { Operation } from "./operation.ts";
import { chunkRange, ringAllGather } from "./schedules.ts";
import type { Chunk } from "./transport/transport.ts";

/** Lends every other rank's bytes, in order of arrival; what the one-shot collectives are made of. */
export async function exchange(
  operation: Operation,
  own: Uint8Array,
  usePart: (from: number, chunk: Chunk) => void,
  expectedBytes?: number,
): Promise<void> {
  const received = operation.peers.map((from) =>
    operation.recv(
      from,
      (chunk) => {
        usePart(from, chunk);
      },
      expectedBytes,
    ),
  );
  await Promise.all([operation.publish(own), ...received]);
}

/** Parts may differ in size. */
export async function allGatherOneShot(
  operation: Operation,
  own: Uint8Array,
): Promise<Uint8Array<ArrayBuffer>[]> {
  const received = operation.peers.map((from) => operation.recvBytes(from));
  const [parts] = await Promise.all([Promise.all(received), operation.publish(own)]);
  parts.splice(operation.rank, 0, new Uint8Array(own));
  return parts;
}

/** In place: x holds chunk `rank` (schedules.ts, chunkRange) of this rank, and all chunks afterwards. */
export async function allGatherRing(operation: Operation, x: Float32Array): Promise<void> {
  const { rank, worldSize } = operation;
  const chunkBytes = (index: number): Uint8Array => {
    const { begin, end } = chunkRange(x.length, worldSize, index);
    return bytesOfArray(x.subarray(begin, end));
  };
  for (const { to, sendChunk, from, recvChunk } of ringAllGather(rank, worldSize)) {
    await Promise.all([
      operation.recvInto(from, chunkBytes(recvChunk)),
      operation.send(to, chunkBytes(sendChunk)),
    ]);
  }
}
