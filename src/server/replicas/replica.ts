/** One copy of the model on its own ranks: loaded, watched, and loaded again after it failed. */
import { messageOf } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import type { EngineRequest } from "../../runtime/engine.ts";
import type { RequestStream } from "../../runtime/requestStream.ts";
import { PrefixMemory } from "./prefixAffinity.ts";
import type { RouteCandidate } from "./routing.ts";
import type { LoadReplica, ServedModel } from "./servedModel.ts";

/** `restarting`: its model failed, and another is being loaded in its place. */
export type ReplicaState = "ready" | "restarting" | "stopped";

export interface ReplicaOptions {
  readonly log?: Logger;
  /** Waits before the first, second, … restart after a failure; the last one repeats. */
  readonly restartDelaysMs?: readonly number[];
}

const RESTART_DELAYS_MS = [0, 1000, 2000, 5000, 15_000, 30_000] as const;

/** `model` is the one that answers now; it changes with a restart. */
export class Replica {
  readonly index: number;
  readonly #load: LoadReplica;
  readonly #options: ReplicaOptions;
  readonly #prefixes = new PrefixMemory();
  #model: ServedModel;
  #state: ReplicaState = "ready";
  #cause: Error | null = null;
  #numRestarts = 0;
  #numRouted = 0;
  #restart: Promise<void> | null = null;
  #wake: () => void = () => undefined;

  constructor(index: number, model: ServedModel, load: LoadReplica, options: ReplicaOptions = {}) {
    this.index = index;
    this.#model = model;
    this.#load = load;
    this.#options = options;
    this.#watch();
  }

  get state(): ReplicaState {
    return this.#state;
  }

  get model(): ServedModel {
    return this.#model;
  }

  /** Why it is not ready; null while it is. */
  get cause(): Error | null {
    return this.#cause;
  }

  get numRestarts(): number {
    return this.#numRestarts;
  }

  /** What routing knows of it, for a prompt of these hashes. */
  candidate(hashes: readonly number[]): RouteCandidate & { readonly replica: Replica } {
    const { numRunning, numWaiting, numUsedBlocks } = this.#model.llm.engine.stats;
    const { maxNumSeqs, numBlocks } = this.#model.executor.limits;
    const kvUsage = numUsedBlocks / numBlocks;
    const [prefixSeen, numRouted] = [this.#prefixes.seen(hashes), this.#numRouted];
    const state = { numRunning, numWaiting, maxNumSeqs, kvUsage, prefixSeen, numRouted };
    return { ...state, replica: this };
  }

  /** Hands a request to the engine; throws what the engine throws. */
  add(request: EngineRequest, hashes: readonly number[]): RequestStream {
    const stream = this.#model.llm.engine.addRequest(request);
    this.#prefixes.add(hashes);
    this.#numRouted += 1;
    return stream;
  }

  /** Takes the replica out of rotation if its engine has failed; true if it has. */
  checkFailure(): boolean {
    const { failure } = this.#model.llm.engine;
    if (failure === null || this.#state !== "ready") return this.#state !== "ready";
    this.#state = "restarting";
    this.#cause = failure;
    this.#prefixes.clear();
    this.#options.log?.error(`replica ${this.index} is out of rotation: ${failure.message}`);
    this.#restart = this.#restartUntilReady();
    return true;
  }

  /** Ends it for good. */
  async stop(): Promise<void> {
    this.#state = "stopped";
    this.#wake();
    await this.#restart;
    await this.#model.shutdown();
  }

  async #restartUntilReady(): Promise<void> {
    await this.#model.shutdown().catch(() => undefined); // frees what is left of its devices
    const delays = this.#options.restartDelaysMs ?? RESTART_DELAYS_MS;
    for (let attempt = 0; this.#isWanted(); attempt++) {
      await this.#sleep(delays[Math.min(attempt, delays.length - 1)] ?? 0);
      if (!this.#isWanted()) return;
      try {
        this.#model = await this.#load(this.index);
        this.#watch();
        break;
      } catch (error) {
        this.#options.log?.error(`replica ${this.index}: restart failed: ${messageOf(error)}`);
      }
    }
    if (!this.#isWanted()) return;
    this.#numRestarts += 1;
    this.#state = "ready";
    this.#cause = null;
    this.#options.log?.info(`replica ${this.index} is back in rotation`);
  }

  /** A worker may be lost while no request runs. */
  #watch(): void {
    this.#model.llm.engine.onFailure(() => void this.checkFailure());
  }

  #isWanted(): boolean {
    return this.#state === "restarting";
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = (): void => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
