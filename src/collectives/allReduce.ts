/**
 * All-reduce: every rank ends with the sum of all ranks' x, bit-equal on all ranks and on every run,
 * since each algorithm adds in an order that only (length, worldSize) decide.
 */
import { allGatherRing } from "./allGather.ts";
import { Accumulator, bytesOfArray } from "./floats.ts";
import type { Operation } from "./operation.ts";
import { reduceScatterRing } from "./reduceScatter.ts";

/** Every rank publishes x and sums all in rank order: one step, (n-1) times the bytes. For small x. */
export async function allReduceOneShot(operation: Operation, x: Float32Array): Promise<void> {
  const sum = new Float32Array(x.length);
  const published = operation.publish(bytesOfArray(x));
  await Promise.all([published, sumInRankOrder(operation, x, sum)]);
  x.set(sum); // only now: loopback lends x itself to the other ranks
}

/** Reduce-scatter, then all-gather: 2(n-1) steps, 2(n-1)/n of the bytes. For large x. */
export async function allReduceRing(operation: Operation, x: Float32Array): Promise<void> {
  await reduceScatterRing(operation, x);
  await allGatherRing(operation, x);
}

async function sumInRankOrder(
  operation: Operation,
  x: Float32Array,
  sum: Float32Array,
): Promise<void> {
  const { add } = new Accumulator(sum, 0);
  for (let rank = 0; rank < operation.worldSize; rank++) {
    if (rank === operation.rank) add({ bytes: bytesOfArray(x), offset: 0 });
    else await operation.recv(rank, add, x.byteLength);
  }
}
