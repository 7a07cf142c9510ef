/** Which devices each replica runs on: world ranks in order, replicas outermost, cyclically. */

/** Devices of every replica's ranks; `devices` are dealt on from where the previous replica ended. */
export function dealReplicaDevices(
  devices: readonly number[],
  numRanks: number,
  numReplicas: number,
): number[][] {
  return Array.from({ length: numReplicas }, (_, replica) =>
    Array.from(
      { length: numRanks },
      (_rank, rank) => devices[(replica * numRanks + rank) % devices.length] ?? 0,
    ),
  );
}
