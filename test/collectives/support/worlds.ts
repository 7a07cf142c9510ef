/** Ways to have all ranks of a world in the test's own thread. */
import { HostCommunicator } from "../../../src/collectives/hostCommunicator.ts";
import { worldGroup } from "../../../src/collectives/processGroup.ts";
import { LoopbackHub } from "../../../src/collectives/transport/loopback.ts";
import {
  attachSharedMemory,
  createSharedMemory,
} from "../../../src/collectives/transport/sharedMemory.ts";
import type { Transport } from "../../../src/collectives/transport/transport.ts";

/** All ranks' ends of a new transport; waits look at their deadline every 20 ms. */
export type MakeWorld = (worldSize: number) => Transport[];

export function ranksOf(worldSize: number): number[] {
  return Array.from({ length: worldSize }, (_, rank) => rank);
}

export const WORLDS: Readonly<Record<string, MakeWorld>> = {
  loopback: (worldSize) => {
    const hub = new LoopbackHub(worldSize, { sliceMs: 20 });
    return ranksOf(worldSize).map((rank) => hub.transport(rank));
  },
  // Slots of few bytes, so that small tests fill them.
  "sharedMemory in one thread": (worldSize) => {
    const descriptor = createSharedMemory(worldSize, {
      publishing: { slots: 2, slotBytes: 128 },
      mailbox: { slots: 2, slotBytes: 64 },
    });
    return ranksOf(worldSize).map((rank) => attachSharedMemory(descriptor, rank, { sliceMs: 20 }));
  },
};

export function closeAll(transports: readonly Transport[]): void {
  for (const transport of transports) transport.close();
}

/** Runs the same code on every rank of a new world; returns each rank's result. */
export async function onEveryRank<T>(
  makeWorld: MakeWorld,
  worldSize: number,
  body: (communicator: HostCommunicator) => Promise<T>,
  timeoutMs = 5000,
): Promise<T[]> {
  const transports = makeWorld(worldSize);
  try {
    return await Promise.all(
      transports.map((transport) =>
        body(new HostCommunicator(worldGroup(transport), { timeoutMs })),
      ),
    );
  } finally {
    closeAll(transports);
  }
}

/** As onEveryRank, with each rank's error in place of its result. */
export async function errorsOnEveryRank(
  makeWorld: MakeWorld,
  worldSize: number,
  body: (communicator: HostCommunicator) => Promise<unknown>,
  timeoutMs = 200,
): Promise<unknown[]> {
  const transports = makeWorld(worldSize);
  const outcomes = await Promise.allSettled(
    transports.map((transport) => body(new HostCommunicator(worldGroup(transport), { timeoutMs }))),
  );
  closeAll(transports);
  return outcomes.map((outcome): unknown =>
    outcome.status === "rejected" ? outcome.reason : undefined,
  );
}
