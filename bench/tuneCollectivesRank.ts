/** One rank of tuneCollectives.ts, in a thread of its own: times each case and posts the medians. */
import { parentPort, workerData } from "node:worker_threads";
import { HostCommunicator } from "../src/collectives/hostCommunicator.ts";
import { worldGroup } from "../src/collectives/processGroup.ts";
import type { Algorithm } from "../src/collectives/signature.ts";
import {
  attachSharedMemory,
  type SharedMemoryDescriptor,
} from "../src/collectives/transport/sharedMemory.ts";
import { TcpListener } from "../src/collectives/transport/tcp.ts";
import type { Transport } from "../src/collectives/transport/transport.ts";
import { median, quantile } from "../src/common/math.ts";

export type BenchTransport = "sharedMemory" | "tcp";

export interface RankTask {
  readonly rank: number;
  readonly worldSize: number;
  readonly transport: BenchTransport;
  readonly descriptor: SharedMemoryDescriptor;
  readonly algorithms: readonly Algorithm[];
  readonly sizes: readonly number[];
  readonly budgetMs: number;
}

export interface RankRow {
  readonly algorithm: Algorithm | "copy";
  readonly bytes: number;
  readonly us: number;
  /** 10th percentile: what it takes when other work does not interfere. */
  readonly p10Us: number;
  readonly p99Us: number;
}

const task = workerData as RankTask;
const MAX_REPEATS = 2000;

/** Addresses are exchanged through the main thread, as a launcher would. */
async function open({ transport, descriptor, rank }: RankTask): Promise<Transport> {
  if (transport === "sharedMemory") return attachSharedMemory(descriptor, rank);
  const listener = await TcpListener.listen({ token: "only for this benchmark" });
  const addresses = new Promise<number[]>((resolve) => {
    parentPort?.once("message", resolve);
  });
  parentPort?.postMessage({ port: listener.port });
  const ports = await addresses;
  return listener.connect({ rank, addresses: ports.map((port) => ({ host: "127.0.0.1", port })) });
}

async function timed(host: HostCommunicator, run: () => Promise<unknown>): Promise<number[]> {
  const once = async (): Promise<number> => {
    const begin = performance.now();
    await run();
    return performance.now() - begin;
  };
  for (let i = 0; i < 5; i++) await once();
  const estimate = Float32Array.of(await once());
  await host.broadcast(estimate, 0); // all ranks must repeat as often
  const repeats = Math.max(
    5,
    Math.min(MAX_REPEATS, Math.floor(task.budgetMs / (estimate[0] ?? 1))),
  );
  await host.barrier();
  const times: number[] = [];
  for (let i = 0; i < repeats; i++) times.push(await once());
  return times;
}

/** What an all-reduce of n ranks must at least copy: 2(n-1)/n of x into shared memory, and as much out. */
function copyBound(bytes: number): () => Promise<void> {
  const moved = Math.ceil((bytes * (2 * (task.worldSize - 1))) / task.worldSize);
  const [shared, plain] = [new Uint8Array(new SharedArrayBuffer(moved)), new Uint8Array(moved)];
  const step = 256 * 1024; // as the transport does: a slot in, a slot out
  return async () => {
    for (let at = 0; at < moved; at += step) {
      shared.set(plain.subarray(at, at + step), at);
      plain.set(shared.subarray(at, at + step), at);
    }
    await Promise.resolve();
  };
}

const transport = await open(task);
const host = new HostCommunicator(worldGroup(transport), { timeoutMs: 120_000 });
const rows: RankRow[] = [];
const note = (algorithm: RankRow["algorithm"], bytes: number, times: readonly number[]): void => {
  rows.push({
    algorithm,
    bytes,
    us: 1000 * median(times),
    p10Us: 1000 * quantile(times, 0.1),
    p99Us: 1000 * quantile(times, 0.99),
  });
};
for (const bytes of task.sizes) {
  const x = new Float32Array(bytes / 4).fill(host.rank);
  for (const algorithm of task.algorithms) {
    note(algorithm, bytes, await timed(host, () => host.allReduce(x, { algorithm })));
    x.fill(host.rank);
  }
  await host.barrier();
  note("copy", bytes, await timed(host, copyBound(bytes)));
}
await host.barrier();
parentPort?.postMessage({ rows });
transport.close();
