/** Chooses the way to each other rank by where it lives: memory within a process, TCP to all others. */
import { CollectiveError } from "../../common/errors.ts";
import { RouterTransport } from "./router.ts";
import {
  type AttachOptions,
  attachSharedMemory,
  type SharedMemoryDescriptor,
} from "./sharedMemory.ts";
import type { TcpConnectOptions, TcpListener } from "./tcp.ts";
import type { Transport } from "./transport.ts";

export interface RankPlacement {
  readonly rank: number;
  /** By world rank, the process that it lives in, as any number. */
  readonly processes: readonly number[];
  /** Of this process, made for all ranks of the world; needed where it has more than one of them. */
  readonly memory?: SharedMemoryDescriptor;
  /** This rank's open port; needed where there are other processes. */
  readonly listener?: TcpListener;
  /** Every rank's address, by rank, with `listener`. */
  readonly tcp?: Omit<TcpConnectOptions, "rank" | "peers" | "control" | "onAbort">;
  readonly attach?: AttachOptions;
}

/** All ranks call it; with TCP it ends once this rank has all its connections. */
export async function connectRank(placement: RankPlacement): Promise<Transport> {
  const { rank, processes, memory, listener, tcp, attach } = placement;
  const ranks = [...processes.keys()];
  const near = ranks.filter((other) => processes[other] === processes[rank]);
  const peers = ranks.filter((other) => !near.includes(other));
  if (near.length > 1 && memory?.worldSize !== processes.length) {
    throw new CollectiveError(
      `rank ${rank}: expected shared memory for ${processes.length} ranks, got ${memory?.worldSize ?? "none"}`,
    );
  }
  const local = memory === undefined ? undefined : attachSharedMemory(memory, rank, attach);
  if (local !== undefined && peers.length === 0) return local;
  if (listener === undefined || tcp === undefined) {
    throw new CollectiveError(
      `rank ${rank}: expected an open port and addresses for ranks ${peers.join(", ")} in other processes, got none`,
    );
  }
  if (local === undefined) return listener.connect({ ...tcp, rank, peers });
  if (attach?.wait === "block") {
    throw new CollectiveError(
      `rank ${rank}: expected wait "async" with ranks in other processes, got "block"; a stopped thread reads no socket`,
    );
  }
  const far = await listener.connect({
    ...tcp,
    rank,
    peers,
    control: local.control,
    onAbort: (cause) => {
      local.abort(cause);
    },
  });
  return new RouterTransport(local, far, near);
}
