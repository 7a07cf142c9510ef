/** Starts the threads of a world, in Node, and collects what they tell. */
import { Worker as Thread } from "node:worker_threads";
import {
  abortSharedMemory,
  createSharedMemory,
  type SharedMemoryDescriptor,
} from "../../collectives/transport/sharedMemory.ts";
import { CollectiveAbortedError, messageOf, WorkerError } from "../../common/errors.ts";
import { reviveError } from "../executor/rankMessages.ts";
import type { BenchTransport } from "./benchPlan.ts";
import type { RankJob, Seat, ThreadMessage, ThreadTask } from "./rankJob.ts";

export interface WorldOptions {
  readonly seats: readonly Seat[];
  readonly transport: BenchTransport;
  readonly job: RankJob;
  /** Ends the ranks early, in order. */
  readonly signal?: AbortSignal | undefined;
}

/** Ends when all threads have; throws the first failure that is not the echo of another. */
export async function runWorld(
  { seats, transport, job, signal }: WorldOptions,
  onMessage: (message: ThreadMessage) => void,
): Promise<void> {
  const worldSize = seats.length;
  const descriptor = createSharedMemory(worldSize);
  const common = { worldSize, transport, descriptor, job };
  const tasks: ThreadTask[] =
    transport === "loopback"
      ? [{ ...common, seats }]
      : seats.map((seat) => ({ ...common, seats: [seat] }));
  const failures: Error[] = [];
  const world = new World(tasks, descriptor, (message) => {
    if (message.kind !== "failed") onMessage(message);
    else failures.push(reviveError({ ...message, stack: undefined }));
  });
  const stop = (): void => {
    world.abort("stopped by the user");
  };
  signal?.addEventListener("abort", stop);
  failures.push(...(await world.ended()));
  signal?.removeEventListener("abort", stop);
  signal?.throwIfAborted();
  const cause = failures.find((failure) => !(failure instanceof CollectiveAbortedError));
  const first = cause ?? failures[0];
  if (first !== undefined) throw first;
}

class World {
  readonly #threads: readonly Thread[];
  readonly #descriptor: SharedMemoryDescriptor;
  readonly #ports = new Map<number, number>();
  readonly #onMessage: (message: ThreadMessage) => void;
  readonly #ended: Promise<(Error | undefined)[]>;

  constructor(
    tasks: readonly ThreadTask[],
    descriptor: SharedMemoryDescriptor,
    onMessage: (message: ThreadMessage) => void,
  ) {
    this.#descriptor = descriptor;
    this.#onMessage = onMessage;
    this.#threads = tasks.map(
      (workerData) =>
        new Thread(new URL("./rankThreadNode.ts", import.meta.url), {
          workerData,
          name: `rank ${workerData.seats.map(({ rank }) => rank).join()}`,
        }),
    );
    this.#ended = Promise.all(this.#threads.map((thread, index) => this.#watch(thread, index)));
  }

  /** Every thread's failure, once all have ended. */
  async ended(): Promise<Error[]> {
    return (await this.#ended).filter((failure) => failure !== undefined);
  }

  abort(reason: string): void {
    abortSharedMemory(this.#descriptor, { rank: undefined, reason });
  }

  #watch(thread: Thread, index: number): Promise<Error | undefined> {
    thread.on("message", (message: ThreadMessage) => {
      if (message.kind === "port") this.#exchangePorts(message.rank, message.port);
      else this.#onMessage(message);
    });
    return new Promise((resolve) => {
      let failure: Error | undefined;
      const fail = (cause: string): void => {
        failure ??= new WorkerError(`rank ${index}: its worker thread died: ${cause}`);
        this.abort(failure.message);
      };
      thread.on("error", (error) => {
        fail(messageOf(error));
      });
      thread.on("exit", (code) => {
        if (code !== 0) fail(`exit code ${code}`);
        resolve(failure);
      });
    });
  }

  #exchangePorts(rank: number, port: number): void {
    this.#ports.set(rank, port);
    if (this.#ports.size < this.#threads.length) return;
    const ports = this.#threads.map((_, index) => this.#ports.get(index) ?? 0);
    for (const thread of this.#threads) thread.postMessage(ports);
  }
}
