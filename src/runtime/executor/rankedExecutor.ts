/** The Executor over a set of ranks: hands each plan to all of them and takes the sampling rank's output. */
import { WorkerError } from "../../common/errors.ts";
import { within } from "../../common/within.ts";
import type { KvPlan } from "../kvBudget.ts";
import type { TraceProcess } from "../../common/trace.ts";
import type { LaunchTime } from "../../device/timestamps.ts";
import type { RankReport, RunSpec } from "../rankSpec.ts";
import { samplingRank } from "../rankSpec.ts";
import type { RankStats } from "../stats.ts";
import type { StepOutput, StepPlan } from "../stepPlan.ts";
import type { Executor, ExecutorLimits } from "./executor.ts";
import { sizeKvCache } from "./kvSizing.ts";
import type { ProfiledStep, RankHandle, TapRecord } from "./rankHandle.ts";

/** A rank's last spans: longer than any step, shorter than a user's patience. */
const TRACE_TIMEOUT_MS = 10_000;
/** How long ranks may take to end their last steps, once the sampling rank has, before they are shut down. */
const LAST_STEPS_MS = 2_000;

type Loaded = Pick<RankedExecutor, "reports" | "kvPlan" | "openMs" | "startMs">;

export class RankedExecutor implements Executor {
  readonly limits: ExecutorLimits;
  readonly reports: readonly RankReport[];
  /** How the KV cache was sized; activations are what the ranks have allocated. */
  readonly kvPlan: KvPlan;
  /** Host time until all ranks had opened their devices and had their weights, and until all were ready. */
  readonly openMs: number;
  readonly startMs: number;
  /** Runs first in a shutdown, while ranks still answer. */
  beforeShutdown: (() => Promise<void>) | undefined;
  readonly #ranks: readonly RankHandle[];
  readonly #root: number;
  readonly #listeners = new Set<(error: Error) => void>();
  /** Steps that some rank still runs; the sampling rank may have ended them. */
  readonly #running = new Set<Promise<unknown>>();
  #failure: Error | undefined;
  #cacheEpoch = 0;

  private constructor(
    ranks: readonly RankHandle[],
    run: RunSpec,
    limits: ExecutorLimits,
    { reports, kvPlan, openMs, startMs }: Loaded,
  ) {
    this.#ranks = ranks;
    this.openMs = openMs;
    this.startMs = startMs;
    this.#root = samplingRank(run);
    this.limits = limits;
    this.reports = reports;
    this.kvPlan = kvPlan;
    for (const rank of ranks)
      rank.onFailure((error) => {
        this.#fail(error);
      });
  }

  /** Opens and starts all ranks in parallel; on any failure all are shut down before it is thrown. */
  static async start(
    ranks: readonly RankHandle[],
    run: RunSpec,
    vocabSize: number,
  ): Promise<RankedExecutor> {
    try {
      const beginMs = performance.now();
      const reports = await allOrFirstFailure(ranks, (rank) => rank.open());
      const openMs = performance.now() - beginMs;
      const planned = await sizeKvCache(ranks, run, reports);
      const { numBlocks } = planned;
      const activations = await allOrFirstFailure(ranks, (rank) => rank.start(numBlocks));
      const kvPlan = withActivations(planned, activations);
      const { maxNumSeqs, maxNumBatchedTokens, blockSize, maxModelLen } = run;
      const { maxInFlight, maxLongInFlight, burstSteps } = run;
      const ahead = { maxInFlight, maxLongInFlight, burstSteps };
      const sizes = { maxNumSeqs, maxNumBatchedTokens, blockSize, maxModelLen, ...ahead };
      const { numMicroBatches, minSplitDecodes } = run;
      const ppSize = run.ppSize * numMicroBatches;
      const spread = { ppSize, numMicroBatches, minSplitDecodes };
      const limits = { ...sizes, numBlocks, vocabSize, ...spread };
      const startMs = performance.now() - beginMs - openMs;
      return new RankedExecutor(ranks, run, limits, { reports, kvPlan, openMs, startMs });
    } catch (error) {
      await Promise.allSettled(ranks.map((rank) => rank.shutdown()));
      throw error;
    }
  }

  get cacheEpoch(): number {
    return this.#cacheEpoch;
  }

  async execute(plan: StepPlan): Promise<StepOutput> {
    const outputs = this.#ranks.map((rank) => rank.execute(plan));
    const ended = Promise.allSettled(outputs);
    this.#running.add(ended);
    void ended.then(() => this.#running.delete(ended));
    for (const output of outputs)
      output.catch((error: unknown) => {
        this.#fail(asError(error));
      });
    const output = await this.#orFailure(outputs[this.#root] ?? Promise.resolve(null));
    if (output === null) {
      throw new WorkerError(`rank ${this.#root}: step ${plan.stepIndex} gave no tokens`);
    }
    return output;
  }

  /** Taps of every rank for one prompt; for use while no request runs. */
  async forwardTaps(
    tokenIds: readonly number[],
    only: readonly string[] = [],
  ): Promise<readonly (readonly TapRecord[])[]> {
    this.#cacheEpoch += 1;
    const taps = Promise.all(this.#ranks.map((rank) => rank.forwardTaps(tokenIds, only)));
    return await this.#orFailure(taps);
  }

  /** GPU time of the launches of one step on rank 0; for use while no request runs. */
  async profileStep(step: ProfiledStep): Promise<readonly LaunchTime[]> {
    this.#cacheEpoch += 1;
    const all = Promise.all(this.#ranks.map((rank) => rank.profileStep(step)));
    const [first = []] = await this.#orFailure(all);
    return first;
  }

  async stats(): Promise<RankStats[]> {
    return await Promise.all(this.#ranks.map((rank) => rank.stats()));
  }

  async resetStats(): Promise<void> {
    await Promise.all(this.#ranks.map((rank) => rank.resetStats()));
  }

  /** What each traced rank did so far; a rank that failed or does not answer gives nothing. */
  async traces(): Promise<TraceProcess[]> {
    const traces = this.#ranks.map((rank) => within(TRACE_TIMEOUT_MS, rank.trace()));
    const settled = await Promise.allSettled(traces);
    return settled.flatMap((trace) =>
      trace.status === "fulfilled" && trace.value !== undefined ? [trace.value] : [],
    );
  }

  onFailure(listener: (error: Error) => void): void {
    if (this.#failure === undefined) this.#listeners.add(listener);
    else listener(this.#failure);
  }

  async shutdown(): Promise<void> {
    try {
      await this.beforeShutdown?.();
    } finally {
      // A rank that is shut down in the middle of a step, behind the one that sampled, would take that for a failure.
      if (this.#failure === undefined) await within(LAST_STEPS_MS, Promise.all(this.#running));
      await Promise.allSettled(this.#ranks.map((rank) => rank.shutdown()));
    }
  }

  #fail(error: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    for (const listener of this.#listeners) listener(error);
    this.#listeners.clear();
  }

  /** The result, or the first failure of any rank. A race with one lasting promise would hold every result. */
  #orFailure<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.onFailure(reject);
      void work.then(resolve, reject).finally(() => {
        this.#listeners.delete(reject);
      });
    });
  }
}

/** The plan with what was allocated in place of the estimate. */
function withActivations(plan: KvPlan, activations: readonly number[]): KvPlan {
  const ranks = plan.ranks.map((memory, rank) => {
    const { activationBytes: estimate, limitBytes } = memory;
    const activationBytes = activations[rank] ?? estimate;
    // Where the limit is the KV cache's alone, the rest only adds to it.
    const added = memory.source === "measured" ? 0 : activationBytes - estimate;
    return { ...memory, activationBytes, limitBytes: limitBytes + added };
  });
  return { ...plan, ranks };
}

/** The first failure aborts the other ranks' collectives, so that none of them waits on. */
async function allOrFirstFailure<T>(
  ranks: readonly RankHandle[],
  work: (rank: RankHandle) => Promise<T>,
): Promise<T[]> {
  let first: Error | undefined;
  const results = await Promise.all(
    ranks.map((rank) =>
      work(rank).catch((error: unknown) => {
        if (first === undefined) {
          first = asError(error);
          for (const other of ranks) other.abort(first.message);
        }
        return undefined;
      }),
    ),
  );
  if (first !== undefined) throw first;
  return results as T[];
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new WorkerError(String(error));
}
