/** All replicas behind one door: admits requests, routes them, and moves those of a dead replica. */
import { InputError } from "../../common/errors.ts";
import type { EngineRequest } from "../../runtime/engine.ts";
import type { RequestOutput } from "../../runtime/request.ts";
import type { RequestStream } from "../../runtime/requestStream.ts";
import { ApiError, unavailable } from "../http/apiError.ts";
import { prefixHashes } from "./prefixAffinity.ts";
import { Replica, type ReplicaOptions } from "./replica.ts";
import { chooseReplica } from "./routing.ts";
import type { LoadReplica, ServedModel } from "./servedModel.ts";

/** Told what happens to each request; the server's metrics listen. */
export interface RequestObserver {
  onOutput(replicaIndex: number, stream: RequestStream, output: RequestOutput): void;
  onFailure(replicaIndex: number): void;
}

export interface ReplicaSetOptions extends ReplicaOptions {
  /** Requests that may wait over all replicas; more are refused with a 429. */
  readonly maxQueue: number;
  readonly observer?: RequestObserver;
}

/** One request that a replica has taken. */
export interface Submission {
  readonly outputs: AsyncGenerator<RequestOutput, void, undefined>;
}

interface Placement {
  readonly replica: Replica;
  readonly stream: RequestStream;
}

export class ReplicaSet {
  readonly replicas: readonly Replica[];
  readonly #options: ReplicaSetOptions;
  #isDraining = false;

  constructor(models: readonly ServedModel[], load: LoadReplica, options: ReplicaSetOptions) {
    this.replicas = models.map((model, index) => new Replica(index, model, load, options));
    this.#options = options;
  }

  /** Loads all replicas, one after the other: they compete for the same disk and compiler. */
  static async start(
    size: number,
    load: LoadReplica,
    options: ReplicaSetOptions,
  ): Promise<ReplicaSet> {
    const models: ServedModel[] = [];
    try {
      for (let index = 0; index < size; index++) models.push(await load(index));
    } catch (error) {
      await Promise.allSettled(models.map((model) => model.shutdown()));
      throw error;
    }
    return new ReplicaSet(models, load, options);
  }

  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** Any replica's, for what is the same in all: limits, tokenizer, defaults. */
  get model(): ServedModel {
    const [first] = this.replicas;
    if (first === undefined) throw new Error("a ReplicaSet has at least one replica");
    return first.model;
  }

  get numUnfinished(): number {
    return this.#sum("numWaiting") + this.#sum("numRunning");
  }

  /** Throws an ApiError unless this many more requests may come in now. */
  admit(numRequests: number): void {
    if (this.#isDraining) throw unavailable("The server is shutting down.", "shutting_down", 5);
    if (this.#ready().length === 0) throw noReplica();
    const numWaiting = this.#sum("numWaiting");
    if (numWaiting === 0 || numWaiting + numRequests <= this.#options.maxQueue) return;
    throw new ApiError({
      status: 429,
      type: "rate_limit_error",
      code: "queue_full",
      message: `The queue is full: ${numWaiting} requests wait, ${this.#options.maxQueue} may.`,
      retryAfterS: 1,
    });
  }

  /** Starts a request at once; throws if it can never run. Aborting `signal` ends it at once. */
  submit(request: EngineRequest, signal: AbortSignal): Submission {
    const hashes = prefixHashes(request.promptTokenIds);
    return { outputs: this.#read(request, hashes, this.#place(request, hashes), signal) };
  }

  /** Takes no more requests, and waits until those that run are done or `timeoutMs` is over. */
  async drain(timeoutMs: number): Promise<void> {
    this.#isDraining = true;
    const deadline = performance.now() + timeoutMs;
    while (this.numUnfinished > 0 && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async stop(): Promise<void> {
    this.#isDraining = true;
    await Promise.all(this.replicas.map((replica) => replica.stop()));
  }

  async *#read(
    request: EngineRequest,
    hashes: readonly number[],
    first: Placement,
    signal: AbortSignal,
  ): AsyncGenerator<RequestOutput, void, undefined> {
    let { replica, stream } = first;
    const abort = (): void => void replica.model.llm.engine.abort(stream.requestId);
    signal.addEventListener("abort", abort, { once: true });
    let numOutputs = 0;
    try {
      if (signal.aborted) abort();
      for (;;) {
        try {
          for await (const output of stream) {
            numOutputs += 1;
            this.#options.observer?.onOutput(replica.index, stream, output);
            yield output;
          }
          return;
        } catch (error) {
          this.#options.observer?.onFailure(replica.index);
          const isLost = replica.checkFailure();
          const canRetry = isLost && numOutputs === 0 && !signal.aborted && !this.#isDraining;
          if (!canRetry || this.#ready().length === 0) throw isLost ? lostReplica(error) : error;
          ({ replica, stream } = this.#place(request, hashes));
        }
      }
    } finally {
      signal.removeEventListener("abort", abort);
      abort(); // of no effect once it has ended
    }
  }

  #place(request: EngineRequest, hashes: readonly number[]): Placement {
    for (;;) {
      const candidates = this.#ready().map((replica) => replica.candidate(hashes));
      const replica = chooseReplica(candidates)?.replica;
      if (replica === undefined) throw noReplica();
      try {
        return { replica, stream: replica.add(request, hashes) };
      } catch (error) {
        if (error instanceof InputError || !replica.checkFailure()) throw error;
      }
    }
  }

  #ready(): Replica[] {
    return this.replicas.filter((replica) => !replica.checkFailure());
  }

  #sum(field: "numWaiting" | "numRunning"): number {
    return this.#ready().reduce((sum, { model }) => sum + model.llm.engine.stats[field], 0);
  }
}

function noReplica(): ApiError {
  return unavailable("No replica of the model is running; one is being restarted.", "no_replica", 5);
}

function lostReplica(cause: unknown): ApiError {
  const message = "A worker of the model was lost while it worked on this request.";
  const fields = { status: 503, type: "server_error", code: "worker_lost", message } as const;
  return new ApiError({ ...fields, retryAfterS: 5 }, { cause });
}
