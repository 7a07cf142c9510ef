/** One rank of a group as the conformance suite sees it: typed arrays in and out, wherever they are summed. */
import type { HostCommunicator } from "../../../src/collectives/hostCommunicator.ts";
import type { TensorDict } from "../../../src/collectives/tensorDict.ts";
import { bytesOfArray, floatsOf } from "../../../src/collectives/floats.ts";
import { chunkRange } from "../../../src/collectives/schedules.ts";
import type { Transport } from "../../../src/collectives/transport/transport.ts";

/** Matrices are row-major; `rows` x `columns`. */
export interface Member {
  readonly rank: number;
  readonly worldSize: number;
  readonly transport: Transport;
  readonly allReduce: (x: Float32Array, columns: number) => Promise<Float32Array>;
  /** This rank's rows, chunkRange(rows, worldSize, rank), of the sum. */
  readonly reduceScatter: (x: Float32Array, columns: number) => Promise<Float32Array>;
  /** `chunk`: this rank's rows of `rows`. */
  readonly allGather: (chunk: Float32Array, columns: number, rows: number) => Promise<Float32Array>;
  readonly broadcast: (x: Float32Array, root: number) => Promise<Float32Array>;
  readonly gather: (x: Float32Array, root: number) => Promise<Float32Array[] | undefined>;
  /** parts[r]: rows for rank r. */
  readonly allToAll: (parts: readonly Float32Array[], columns: number) => Promise<Float32Array[]>;
  readonly send: (x: Float32Array, to: number) => Promise<void>;
  readonly recv: (length: number, from: number) => Promise<Float32Array>;
  readonly sendTensorDict: (dict: TensorDict, to: number) => Promise<void>;
  readonly recvTensorDict: (from: number) => Promise<TensorDict>;
  readonly barrier: () => Promise<void>;
}

/** Runs the same code on every rank of a new world. */
export type OnEveryMember = <T>(
  worldSize: number,
  body: (member: Member) => Promise<T>,
  timeoutMs?: number,
) => Promise<T[]>;

export function hostMember(host: HostCommunicator): Member {
  const { rank, worldSize } = host;
  const { transport } = host.group;
  return {
    rank,
    worldSize,
    transport,
    allReduce: (x) => host.allReduce(x),
    reduceScatter: (x, columns) => host.reduceScatter(x, { unit: columns }),
    allGather: (chunk, columns, rows) => {
      const all = new Float32Array(rows * columns);
      all.set(chunk, chunkRange(rows, worldSize, rank).begin * columns);
      return host.allGatherChunks(all, { unit: columns });
    },
    broadcast: (x, root) => host.broadcast(x, root),
    gather: async (x, root) => (await host.gather(bytesOfArray(x), root))?.map((b) => floatsOf(b)),
    allToAll: async (parts) => {
      const received = await host.allToAll(parts.map((part) => bytesOfArray(part)));
      return received.map((bytes) => floatsOf(bytes));
    },
    send: (x, to) => host.send(to, bytesOfArray(x), "f32"),
    recv: async (_length, from) => floatsOf(await host.recvBytes(from, "f32")),
    sendTensorDict: (dict, to) => host.sendTensorDict(to, dict),
    recvTensorDict: (from) => host.recvTensorDict(from),
    barrier: () => host.barrier(),
  };
}
