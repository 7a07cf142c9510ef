/** Ways to have all ranks of a world in the test's own thread. */
import { HostCommunicator } from "../../../src/collectives/hostCommunicator.ts";
import { worldGroup } from "../../../src/collectives/processGroup.ts";
import { connectRank } from "../../../src/collectives/transport/connectNode.ts";
import { LoopbackHub } from "../../../src/collectives/transport/loopback.ts";
import {
  attachSharedMemory,
  createSharedMemory,
  type SharedMemoryDescriptor,
} from "../../../src/collectives/transport/sharedMemory.ts";
import {
  type TcpConnectOptions,
  TcpListener,
  type TcpListenOptions,
} from "../../../src/collectives/transport/tcp.ts";
import type { Transport } from "../../../src/collectives/transport/transport.ts";

/** All ranks' ends of a new transport; waits look at their deadline every 20 ms. */
export type MakeWorld = (worldSize: number) => Transport[] | Promise<Transport[]>;

const SLICE_MS = 20;
export const TOKEN = "a token of this test alone";

export function ranksOf(worldSize: number): number[] {
  return Array.from({ length: worldSize }, (_, rank) => rank);
}

/** Slots of few bytes, so that small tests fill them. */
function smallSlots(worldSize: number): SharedMemoryDescriptor {
  return createSharedMemory(worldSize, {
    publishing: { slots: 2, slotBytes: 128 },
    mailbox: { slots: 2, slotBytes: 64 },
  });
}

/** Every rank listens on a free port of this machine, then all connect. `more(rank)` adds options. */
export async function tcpWorld(
  worldSize: number,
  more: (rank: number) => Partial<TcpConnectOptions> = () => ({}),
  listen: Partial<TcpListenOptions> = {},
): Promise<Transport[]> {
  const listeners = await Promise.all(
    ranksOf(worldSize).map(() => TcpListener.listen({ token: TOKEN, ...listen })),
  );
  const addresses = listeners.map(({ port }) => ({ host: "127.0.0.1", port }));
  return Promise.all(
    listeners.map((listener, rank) =>
      listener.connect({ rank, addresses, sliceMs: SLICE_MS, ...more(rank) }),
    ),
  );
}

/** Ranks 0, 2, 4, … live in one process and 1, 3, 5, … in another: shared memory within, TCP across. */
export async function routedWorld(worldSize: number): Promise<Transport[]> {
  const processes = ranksOf(worldSize).map((rank) => rank % 2);
  const memories = [smallSlots(worldSize), smallSlots(worldSize)];
  const listeners = await Promise.all(processes.map(() => TcpListener.listen({ token: TOKEN })));
  const addresses = listeners.map(({ port }) => ({ host: "127.0.0.1", port }));
  return Promise.all(
    listeners.map((listener, rank) => {
      const memory = memories[rank % 2] ?? smallSlots(worldSize);
      const tcp = { addresses, hosts: processes, sliceMs: SLICE_MS };
      const attach = { sliceMs: SLICE_MS };
      return connectRank({ rank, processes, memory, listener, tcp, attach });
    }),
  );
}

/** Worlds that are there at once. */
export const LOCAL_WORLDS = {
  loopback: (worldSize: number): Transport[] => {
    const hub = new LoopbackHub(worldSize, { sliceMs: SLICE_MS });
    return ranksOf(worldSize).map((rank) => hub.transport(rank));
  },
  "sharedMemory in one thread": (worldSize: number): Transport[] => {
    const descriptor = smallSlots(worldSize);
    return ranksOf(worldSize).map((rank) =>
      attachSharedMemory(descriptor, rank, { sliceMs: SLICE_MS }),
    );
  },
};

export const WORLDS: Readonly<Record<string, MakeWorld>> = {
  ...LOCAL_WORLDS,
  tcp: (worldSize) => tcpWorld(worldSize),
  "tcp with checksums": (worldSize) => tcpWorld(worldSize, () => ({ checksums: true })),
  "sharedMemory and tcp, routed": routedWorld,
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
  const transports = await makeWorld(worldSize);
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
  const transports = await makeWorld(worldSize);
  const outcomes = await Promise.allSettled(
    transports.map((transport) => body(new HostCommunicator(worldGroup(transport), { timeoutMs }))),
  );
  closeAll(transports);
  return outcomes.map((outcome): unknown =>
    outcome.status === "rejected" ? outcome.reason : undefined,
  );
}
