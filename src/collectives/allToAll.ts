/** All-to-all: rank r ends with what every rank addressed to r. */
import type { Operation } from "./operation.ts";

/** parts[r] goes to rank r; sizes may differ and are not known to the receiver in advance. */
export async function allToAllBytes(
  operation: Operation,
  parts: readonly Uint8Array[],
): Promise<Uint8Array<ArrayBuffer>[]> {
  const { rank, worldSize, peers } = operation;
  const received = peers.map((from) => operation.recvBytes(from));
  // From the right neighbour on, so that not every rank sends to rank 0 first.
  const targets = [...peers.filter((to) => to > rank), ...peers.filter((to) => to < rank)];
  const sends = targets.map((to) => operation.send(to, parts[to] ?? new Uint8Array(0)));
  const [others] = await Promise.all([Promise.all(received), ...sends]);
  others.splice(rank, 0, new Uint8Array(parts[rank] ?? new Uint8Array(0)));
  return others.slice(0, worldSize);
}
