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
  /** Prompt tokens that needed no computation, as far as known by now. */
  numCachedTokens(): number;
}

/** Where a request runs; changes when it moves to another replica. */
interface Placement {
  replica: Replica;
  stream: RequestStream;
}

interface Reading {
  readonly request: EngineRequest;
  readonly hashes: readonly number[];
  readonly place: Placement;
  readonly signal: AbortSignal;
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

  /**
   * Starts completions of one prompt at once, on one replica, where they compute the prompt once; throws
   * if they can never run. Aborting `signal` ends them at once.
   */
  submit(requests: readonly EngineRequest[], signal: AbortSignal): Submission[] {
    const hashes = prefixHashes(requests[0]?.promptTokenIds ?? []);
    const places: Placement[] = [];
    try {
      for (const request of requests) {
        const [leader] = places;
        places.push(leader === undefined ? this.#place(request, hashes) : follow(leader, request));
      }
    } catch (error) {
      places.forEach(abort);
      throw error;
    }
    return places.map((place, index) => {
      // Now, not when somebody reads: the client may leave before.
      const onAbort = (): void => {
        abort(place);
      };
      signal.addEventListener("abort", onAbort, { once: true });
      const release = (): void => {
        signal.removeEventListener("abort", onAbort);
        abort(place); // of no effect once it has ended
      };
      const request = requests[index] ?? { promptTokenIds: [] };
      const outputs = this.#read({ request, hashes, place, signal }, release);
      return { outputs, numCachedTokens: () => place.stream.usage.cachedTokens };
    });
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
    { request, hashes, place, signal }: Reading,
    release: () => void,
  ): AsyncGenerator<RequestOutput, void, undefined> {
    try {
      while (!(yield* this.#readPlace(place, signal))) {
        // The draws are keyed by the seed, so the second try is the first one's completion.
        const { sampling } = place.stream.request;
        Object.assign(place, this.#place({ ...request, sampling }, hashes));
      }
    } finally {
      release();
    }
  }

  /** Reads where the request is now. False: its replica was lost before a token, and another is there. */
  async *#readPlace(
    { replica, stream }: Placement,
    signal: AbortSignal,
  ): AsyncGenerator<RequestOutput, boolean, undefined> {
    const { observer } = this.#options;
    let numOutputs = 0;
    try {
      for await (const output of stream) {
        numOutputs += 1;
        observer?.onOutput(replica.index, stream, output);
        yield output;
      }
      return true;
    } catch (error) {
      if (error instanceof InputError) throw error; // its own fault, as a mask without a token
      observer?.onFailure(replica.index);
      if (!replica.checkFailure()) throw error;
      const canRetry = numOutputs === 0 && !signal.aborted && !this.#isDraining;
      if (!canRetry || this.#ready().length === 0) throw lostReplica(error);
      return false;
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

function abort({ replica, stream }: Placement): void {
  replica.model.llm.engine.abort(stream.requestId);
}

/** Puts a request beside another of the same prompt. */
function follow({ replica, stream }: Placement, request: EngineRequest): Placement {
  const leaderId = stream.requestId;
  return { replica, stream: replica.add({ ...request, leaderId }, []) };
}

function noReplica(): ApiError {
  return unavailable(
    "No replica of the model is running; one is being restarted.",
    "no_replica",
    5,
  );
}

function lostReplica(cause: unknown): ApiError {
  const message = "A worker of the model was lost while it worked on this request.";
  const fields = { status: 503, type: "server_error", code: "worker_lost", message } as const;
  return new ApiError({ ...fields, retryAfterS: 5 }, { cause });
}
