/** The entry point of a benchmark thread in Node: one rank, or all ranks of a loopback world. */
import { parentPort, workerData } from "node:worker_threads";
import { LoopbackHub } from "../../collectives/transport/loopback.ts";
import {
  attachSharedMemory,
  SharedMemoryTransport,
} from "../../collectives/transport/sharedMemory.ts";
import { TcpListener } from "../../collectives/transport/tcp.ts";
import type { Transport } from "../../collectives/transport/transport.ts";
import { messageOf } from "../../common/errors.ts";
import type { Device } from "../../device/device.ts";
import { NodeOpener } from "../../device/openNode.ts";
import { measureBreakdown } from "./breakdown.ts";
import { checkPairs } from "./pairs.ts";
import { benchRank } from "./rankBench.ts";
import type { Seat, ThreadMessage, ThreadTask } from "./rankJob.ts";

const task = workerData as ThreadTask;

function tell(message: ThreadMessage): void {
  parentPort?.postMessage(message);
}

/** Addresses are exchanged through the main thread, as a launcher would. */
async function connectTcp(rank: number): Promise<Transport> {
  const listener = await TcpListener.listen({ token: "of this benchmark alone" });
  const ports = new Promise<number[]>((resolve) => {
    parentPort?.once("message", resolve);
  });
  tell({ kind: "port", rank, port: listener.port });
  const addresses = (await ports).map((port) => ({ host: "127.0.0.1", port }));
  return listener.connect({ rank, addresses });
}

async function connect(): Promise<Transport[]> {
  const { transport, descriptor, seats, worldSize } = task;
  if (transport === "loopback") {
    const hub = new LoopbackHub(worldSize);
    return seats.map(({ rank }) => hub.transport(rank));
  }
  if (transport === "tcp") return Promise.all(seats.map(({ rank }) => connectTcp(rank)));
  return seats.map(({ rank }) => attachSharedMemory(descriptor, rank));
}

async function openDevice({ rank, deviceIndex }: Seat): Promise<Device | undefined> {
  if (deviceIndex === null) return undefined;
  const { seats, worldSize } = task;
  return new NodeOpener().open({
    index: deviceIndex,
    label: `rank ${rank}`,
    ownsThread: seats.length === 1,
    numThreads: seats.length === 1 ? worldSize : 1,
  });
}

async function runJob(transport: Transport, device: Device | undefined): Promise<void> {
  const { job } = task;
  if (job.kind === "bench") {
    await benchRank(transport, device, job.plan, {
      onRow: (row) => {
        tell({ kind: "row", row });
      },
      onNote: (note) => {
        tell({ kind: "note", note });
      },
      onSkip: (skipped, reason) => {
        tell({ kind: "skip", skipped, reason });
      },
    });
  } else if (device !== undefined && job.kind === "breakdown") {
    const breakdown = await measureBreakdown(transport, device, job.sizeBytes, job.budgetMs);
    if (transport.rank === 0) tell({ kind: "breakdown", breakdown });
  } else if (device !== undefined && job.kind === "pairs") {
    tell({ kind: "pairs", report: await checkPairs(transport, device, job.options) });
  }
}

/** A rank that fails before it takes part in anything ends the others too. */
async function runRank(transport: Transport, seat: Seat): Promise<void> {
  let device: Device | undefined;
  try {
    device = await openDevice(seat);
    if (device !== undefined) {
      tell({ kind: "devices", devices: [{ ...seat, name: device.info.name }] });
      if (transport instanceof SharedMemoryTransport) {
        const { info, pump } = device;
        const mayStop = (): boolean => pump?.isWaiting === false;
        transport.setWaiting({ computesOnCores: info.isSoftware, mayStop });
      }
    }
    await runJob(transport, device);
  } catch (error) {
    transport.abort({ rank: seat.rank, reason: messageOf(error) });
    const name = error instanceof Error ? error.name : "Error";
    tell({ kind: "failed", name, message: messageOf(error) });
  } finally {
    await device?.destroy(); // a thread that ends with a map pending would abort the process
    transport.close();
  }
}

const transports = await connect();
await Promise.all(
  task.seats.map(async (seat, index) => {
    const transport = transports[index];
    if (transport !== undefined) await runRank(transport, seat);
  }),
);
