/**
 * All-reduce: every rank ends with the sum of all ranks' x, bit-equal on all ranks and on every run,
 * since each algorithm adds in an order that only (length, worldSize, hosts) decide.
 */
import { allReduceTwoLevel } from "./allReduceTwoLevel.ts";
import { addInto, addTo, bytesOfArray, floatsOf } from "./floats.ts";
import type { Operation } from "./operation.ts";
import { reduceScatterOneShot } from "./reduceScatter.ts";
import { coreSize, doublingPartners, halvingDoubling, ringAllReduce } from "./schedules.ts";
import { chunkRanges, runSchedule, SegmentedData, type SegmentOptions } from "./segments.ts";
import type { Algorithm } from "./signature.ts";
import type { WireFormat } from "./wire.ts";
import { recvAdd, recvValues, rounded } from "./wireTransfer.ts";

/** In place. */
export async function allReduceBy(
  algorithm: Algorithm,
  operation: Operation,
  x: Float32Array,
  options: SegmentOptions,
): Promise<void> {
  const { rank, worldSize } = operation;
  const { wire = "f32", onFinal } = options;
  switch (algorithm) {
    case "ring": {
      const data = new SegmentedData(x, worldSize, options);
      await runSchedule(operation, ringAllReduce(rank, worldSize), data);
      return;
    }
    case "halvingDoubling": {
      const data = new SegmentedData(x, coreSize(worldSize), options);
      await runSchedule(operation, halvingDoubling(rank, worldSize), data);
      return;
    }
    case "oneShot":
      await allReduceOneShot(operation, x, wire);
      break;
    case "twoShot":
      await allReduceTwoShot(operation, x, options);
      break;
    case "recursiveDoubling":
      await allReduceDoubling(operation, x, wire);
      break;
    case "twoLevel":
      await allReduceTwoLevel(operation, x, wire);
      break;
  }
  if (x.length > 0) onFinal?.(0, x.length);
}

/** Every rank publishes x and sums all in rank order: one step, (n-1) times the bytes. For small x. */
async function allReduceOneShot(
  operation: Operation,
  x: Float32Array,
  wire: WireFormat,
): Promise<void> {
  const own = wire === "f32" ? bytesOfArray(x) : rounded(wire, x);
  const sum = new Float32Array(x.length);
  const published = operation.publish(own);
  await Promise.all([published, sumInRankOrder(operation, x, sum, wire)]);
  x.set(sum); // only now: loopback lends x itself to the other ranks
}

/**
 * Two steps: rank r gets chunk r of every rank and adds them in rank order, then sends the sum to every
 * rank. As few bytes as a ring, in as many steps as there are halves; each rank talks to every other.
 */
async function allReduceTwoShot(
  operation: Operation,
  x: Float32Array,
  { wire = "f32", unit = 1 }: SegmentOptions,
): Promise<void> {
  const { rank, worldSize, peers } = operation;
  await reduceScatterOneShot(operation, x, { wire, unit });
  const chunks = chunkRanges(x.length, worldSize, unit).map(({ begin, end }) =>
    x.subarray(begin, end),
  );
  const chunk = (index: number): Float32Array => chunks[index] ?? new Float32Array(0);
  const own = chunk(rank);
  const sum = wire === "f32" ? bytesOfArray(own) : rounded(wire, own);
  // not published: what a rank sends in both steps must arrive in order, hence by one lane
  const sends = peers.map((to) => operation.send(to, sum));
  const received = peers.map((from) => recvValues(operation, from, chunk(from), wire));
  await Promise.all([...received, ...sends]);
}

/** Rank 0's part is copied, not added to zeros: half of the work with two ranks. */
async function sumInRankOrder(
  operation: Operation,
  x: Float32Array,
  sum: Float32Array,
  wire: WireFormat,
): Promise<void> {
  for (let rank = 0; rank < operation.worldSize; rank++) {
    if (rank === operation.rank) {
      if (rank === 0) sum.set(x);
      else addInto(sum, 0, x);
    } else if (rank === 0) await recvValues(operation, rank, sum, wire);
    else await recvAdd(operation, rank, sum, wire);
  }
}

/** Pairs at distances 1, 2, 4, … exchange their sums: log2 n steps, each with all the bytes. */
async function allReduceDoubling(
  operation: Operation,
  x: Float32Array,
  wire: WireFormat,
): Promise<void> {
  const { rank, worldSize } = operation;
  const core = coreSize(worldSize);
  if (rank >= core) {
    await operation.send(rank - core, wire === "f32" ? bytesOfArray(x) : rounded(wire, x));
    await recvValues(operation, rank - core, x, wire);
    return;
  }
  const folded = rank + core < worldSize ? rank + core : undefined;
  if (folded !== undefined) await recvAdd(operation, folded, x, wire);
  const sum = await exchangeSums(operation, x, wire);
  // All ranks round the result alike, so that the folded ones, which get it rounded, agree.
  const isRounded = wire !== "f32" && core !== worldSize;
  const result = isRounded ? rounded(wire, sum) : bytesOfArray(sum);
  if (folded !== undefined) await operation.send(folded, result);
  if (sum !== x) x.set(sum);
}

/** Returns x or the other of two buffers: while one is lent to the partner, the next sum goes into the other. */
async function exchangeSums(
  operation: Operation,
  x: Float32Array,
  wire: WireFormat,
): Promise<Float32Array> {
  let [current, next] = [x, wire === "f32" ? new Float32Array(x.length) : x];
  for (const partner of doublingPartners(operation.rank, operation.worldSize)) {
    if (wire === "f32") {
      const [base, target] = [current, next];
      const add = ({ bytes, offset }: { bytes: Uint8Array; offset: number }): void => {
        addTo(target, base, offset / 4, floatsOf(bytes));
      };
      const received = operation.recv(partner, add, x.byteLength);
      await Promise.all([received, operation.send(partner, bytesOfArray(base))]);
      [current, next] = [target, base];
    } else {
      const sent = operation.send(partner, rounded(wire, x)); // a copy: x may change at once
      await Promise.all([recvAdd(operation, partner, x, wire), sent]);
    }
  }
  return current;
}
