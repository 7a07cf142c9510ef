/** A rank in a worker thread: runs the scenario that the test named and posts its result. */
import { parentPort, workerData } from "node:worker_threads";
import { HostCommunicator } from "../../../src/collectives/hostCommunicator.ts";
import { worldGroup } from "../../../src/collectives/processGroup.ts";
import type { WaitMode } from "../../../src/collectives/transport/sharedBell.ts";
import {
  attachSharedMemory,
  type SharedMemoryDescriptor,
} from "../../../src/collectives/transport/sharedMemory.ts";
import { bitsOf, randomFloats } from "./data.ts";

export type Scenario = "mixed" | "missing" | "dying";

export interface RankTask {
  readonly descriptor: SharedMemoryDescriptor;
  readonly rank: number;
  readonly wait: WaitMode;
  readonly scenario: Scenario;
}

export interface RankReport {
  readonly rank: number;
  readonly result?: string;
  readonly error?: string;
}

const LENGTHS = [0, 1, 7, 64, 1000, 4097, 40_000];

/** One after the other in both algorithms and all operations; the result holds every bit of it. */
async function mixed(communicator: HostCommunicator): Promise<string> {
  const { rank, worldSize } = communicator;
  let digest = 0;
  const note = (floats: Float32Array): void => {
    for (const word of bitsOf(floats)) digest = (Math.imul(digest, 31) + word) | 0;
  };
  for (let round = 0; round < 5; round++) {
    for (const length of LENGTHS) {
      const x = randomFloats(length, round * 100 + rank);
      note(await communicator.allReduce(x.slice(), { algorithm: "oneShot" }));
      note(await communicator.allReduce(x.slice(), { algorithm: "ring" }));
      note(await communicator.allGather(x));
      note(await communicator.broadcast(x, round % worldSize));
    }
    const right = (rank + 1) % worldSize;
    const [received] = await Promise.all([
      communicator.recvBytes((rank + worldSize - 1) % worldSize),
      communicator.send(right, new Uint8Array(300_000).fill(rank)),
    ]);
    if (received.length !== 300_000 || received[299_999] === rank) throw new Error("wrong message");
    await communicator.barrier();
  }
  return String(digest);
}

const SCENARIOS: Readonly<Record<Scenario, (communicator: HostCommunicator) => Promise<string>>> = {
  mixed,
  missing: async (communicator) => {
    if (communicator.rank !== 0) await communicator.barrier();
    return "done";
  },
  dying: async (communicator) => {
    await communicator.barrier();
    if (communicator.rank === 1) process.exit(3);
    await communicator.barrier();
    return "done";
  },
};

const { descriptor, rank, wait, scenario } = workerData as RankTask;
const transport = attachSharedMemory(descriptor, rank, { wait, sliceMs: 20 });
// The dying rank is reported from outside, long before this deadline.
const timeoutMs = scenario === "missing" ? 250 : 15_000;
const report = await SCENARIOS[scenario](
  new HostCommunicator(worldGroup(transport), { timeoutMs }),
).then(
  (result): RankReport => ({ rank, result }),
  (error: unknown): RankReport => ({ rank, error: String(error) }),
);
parentPort?.postMessage(report);
transport.close();
