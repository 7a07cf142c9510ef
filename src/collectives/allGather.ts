/** All-gather: every rank ends with all ranks' parts, in rank order. */
import type { Operation } from "./operation.ts";
import { ringAllGather } from "./schedules.ts";
import { runSchedule, SegmentedData, type SegmentOptions } from "./segments.ts";
import type { Chunk } from "./transport/transport.ts";

/** Lends every other rank's bytes, in order of arrival; what the one-shot collectives are made of. */
export async function exchange(
  operation: Operation,
  own: Uint8Array,
  usePart: (from: number, chunk: Chunk) => void,
  expectedBytes?: number | ((from: number) => number),
): Promise<void> {
  const expectedOf = (from: number): number | undefined =>
    typeof expectedBytes === "function" ? expectedBytes(from) : expectedBytes;
  const received = operation.peers.map((from) =>
    operation.recv(
      from,
      (chunk) => {
        usePart(from, chunk);
      },
      expectedOf(from),
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

/** In place: x holds chunk `rank` (segments.ts, chunkRanges) of this rank, and all chunks afterwards. */
export async function allGatherRing(
  operation: Operation,
  x: Float32Array,
  options: SegmentOptions = {},
): Promise<void> {
  const { rank, worldSize } = operation;
  const data = new SegmentedData(x, worldSize, options);
  await runSchedule(operation, ringAllGather(rank, worldSize), data);
}
