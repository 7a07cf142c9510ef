/** Reduce-scatter: rank r ends with chunk r (segments.ts, chunkRanges) of the sum of all ranks' x. */
import { addInto, bytesOfArray } from "./floats.ts";
import type { Operation } from "./operation.ts";
import { ringReduceScatter } from "./schedules.ts";
import { chunkRanges, runSchedule, SegmentedData, type SegmentOptions } from "./segments.ts";
import { encodeWire, wireBytes, type WireFormat } from "./wire.ts";
import { recvAdd } from "./wireTransfer.ts";

/** Works in place: of x only chunk `rank` is meaningful afterwards. */
export async function reduceScatterRing(
  operation: Operation,
  x: Float32Array,
  options: SegmentOptions = {},
): Promise<void> {
  const { rank, worldSize } = operation;
  const data = new SegmentedData(x, worldSize, options);
  await runSchedule(operation, ringReduceScatter(rank, worldSize), data);
}

/** Every rank sends each chunk straight to its owner, which adds in rank order: one step. */
export async function reduceScatterOneShot(
  operation: Operation,
  x: Float32Array,
  { wire = "f32", unit = 1 }: SegmentOptions = {},
): Promise<void> {
  const { rank, worldSize, peers } = operation;
  const chunks = chunkRanges(x.length, worldSize, unit).map(({ begin, end }) =>
    x.subarray(begin, end),
  );
  const chunk = (index: number): Float32Array => chunks[index] ?? new Float32Array(0);
  const own = chunk(rank);
  const sum = new Float32Array(own.length);
  const summing = async (): Promise<void> => {
    for (let from = 0; from < worldSize; from++) {
      if (from === rank) addInto(sum, 0, own);
      else await recvAdd(operation, from, sum, wire);
    }
  };
  const sends = peers.map((to) => operation.send(to, encoded(wire, chunk(to))));
  await Promise.all([summing(), ...sends]);
  own.set(sum);
}

function encoded(wire: WireFormat, x: Float32Array): Uint8Array {
  if (wire === "f32") return bytesOfArray(x);
  const bytes = new Uint8Array(wireBytes(wire, x.length));
  encodeWire(wire, x, bytes);
  return bytes;
}
