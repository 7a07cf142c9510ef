/**
 * All-reduce for ranks on several hosts: each host sums its ranks' data shard by shard, the owners of a
 * shard sum across hosts, and each gives the result to the ranks of its host. A byte then crosses
 * between two hosts once, whatever the number of ranks on them; a narrow wire is used only there.
 */
import { addInto, bytesOfArray } from "./floats.ts";
import type { Operation } from "./operation.ts";
import { chunkRange, twoLevelPlan, type TwoLevelPlan } from "./schedules.ts";
import type { WireFormat } from "./wire.ts";
import { recvAdd, rounded } from "./wireTransfer.ts";

export async function allReduceTwoLevel(
  operation: Operation,
  x: Float32Array,
  wire: WireFormat,
): Promise<void> {
  const plan = twoLevelPlan(operation.rank, operation.hosts);
  const sum = await sumOnHost(operation, x, plan);
  const result = sum === undefined ? undefined : await sumAcross(operation, sum, plan, wire);
  await spreadOnHost(operation, x, result, plan);
}

function shardOf(x: Float32Array, { numShards }: TwoLevelPlan, index: number): Float32Array {
  const { begin, end } = chunkRange(x.length, numShards, index);
  return x.subarray(begin, end);
}

/** Every rank sends each shard to its owner on the host, which adds in rank order. */
async function sumOnHost(
  operation: Operation,
  x: Float32Array,
  plan: TwoLevelPlan,
): Promise<Float32Array | undefined> {
  const { local, numShards, shard } = plan;
  const owners = local.slice(0, numShards);
  const sends = owners.flatMap((owner, index) =>
    owner === operation.rank ? [] : [operation.send(owner, bytesOfArray(shardOf(x, plan, index)))],
  );
  const summing = async (): Promise<Float32Array | undefined> => {
    if (shard === undefined) return undefined;
    const own = shardOf(x, plan, shard);
    const sum = new Float32Array(own.length);
    for (const rank of local) {
      if (rank === operation.rank) addInto(sum, 0, own);
      else await recvAdd(operation, rank, sum, "f32");
    }
    return sum;
  };
  const [sum] = await Promise.all([summing(), ...sends]);
  return sum;
}

/** The owners of a shard exchange their hosts' sums and add them in order of host. */
async function sumAcross(
  operation: Operation,
  hostSum: Float32Array,
  { across }: TwoLevelPlan,
  wire: WireFormat,
): Promise<Float32Array> {
  if (across.length === 1) return hostSum;
  const own = rounded(wire, hostSum);
  const sends = across
    .filter((rank) => rank !== operation.rank)
    .map((rank) => operation.send(rank, own));
  const summing = async (): Promise<Float32Array> => {
    const sum = new Float32Array(hostSum.length);
    for (const rank of across) {
      if (rank === operation.rank) addInto(sum, 0, hostSum);
      else await recvAdd(operation, rank, sum, wire);
    }
    return sum;
  };
  const [sum] = await Promise.all([summing(), ...sends]);
  return sum;
}

/** The owners give their shard to every rank of the host; x becomes the result. */
async function spreadOnHost(
  operation: Operation,
  x: Float32Array,
  result: Float32Array | undefined,
  plan: TwoLevelPlan,
): Promise<void> {
  const { local, numShards, shard } = plan;
  const others = local.filter((rank) => rank !== operation.rank);
  // By send, as the shards before: messages that are sent and published are not ordered to each other.
  const sends =
    result === undefined ? [] : others.map((rank) => operation.send(rank, bytesOfArray(result)));
  const receives = local.slice(0, numShards).map(async (owner, index) => {
    const target = shardOf(x, plan, index);
    if (index === shard) target.set(result ?? []);
    else await operation.recvInto(owner, bytesOfArray(target));
  });
  await Promise.all([...receives, ...sends]);
}
