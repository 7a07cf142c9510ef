/** What the live page shows: devices, ranks, KV use, queue, speeds; sampled at most once an interval. */
import type { RankLayout } from "../../runtime/engineArgs.ts";
import type { RankStats } from "../../runtime/stats.ts";
import type { Replica, ReplicaState } from "../replicas/replica.ts";
import type { ReplicaSet } from "../replicas/replicaSet.ts";
import type { ServerMetrics } from "./metrics.ts";
import { rankStats } from "./rankStats.ts";

export interface RankStatus {
  readonly rank: number;
  readonly tp_rank: number;
  readonly pp_rank: number;
  readonly device_index: number;
  readonly device: string;
  readonly is_virtual: boolean;
  readonly layers: RankLayout["layers"];
  readonly weight_bytes: number;
  /** Since the last sample; null without steps in between. */
  readonly collective_ms_per_step: number | null;
  readonly steps_per_s: number;
}

export interface ReplicaStatus {
  readonly replica: number;
  readonly state: ReplicaState;
  readonly cause: string | null;
  readonly num_restarts: number;
  readonly num_running: number;
  readonly num_waiting: number;
  readonly max_num_seqs: number;
  readonly used_blocks: number;
  readonly num_blocks: number;
  readonly block_size: number;
  readonly prompt_tokens_per_s: number;
  readonly generated_tokens_per_s: number;
  readonly ranks: readonly RankStatus[];
}

export interface ServerStatus {
  readonly model: string;
  readonly max_model_len: number;
  readonly dtype: string;
  readonly kv_cache_dtype: string;
  readonly has_chat_template: boolean;
  readonly uptime_s: number;
  readonly is_draining: boolean;
  readonly replicas: readonly ReplicaStatus[];
}

export interface StatusSource {
  readonly modelName: string;
  readonly hasChatTemplate: boolean;
  readonly replicas: ReplicaSet;
  readonly metrics: ServerMetrics;
}

interface Sample {
  readonly atMs: number;
  readonly tokens: readonly { readonly prompt: number; readonly generated: number }[];
  readonly ranks: readonly (readonly RankStats[])[];
  readonly status: ServerStatus;
}

const INTERVAL_MS = 1000;

/** Readers share the samples: ten pages cost the workers no more than one. */
export class StatusFeed {
  readonly #source: StatusSource;
  readonly #startMs = performance.now();
  #last: Sample | null = null;
  #pending: Promise<Sample> | null = null;

  constructor(source: StatusSource) {
    this.#source = source;
  }

  /** Now, or as of less than an interval ago. */
  async read(): Promise<ServerStatus> {
    const last = this.#last;
    if (last !== null && performance.now() - last.atMs < INTERVAL_MS) return last.status;
    this.#pending ??= this.#sample().finally(() => (this.#pending = null));
    return (await this.#pending).status;
  }

  /** One status an interval, until `signal`. */
  async *follow(signal: AbortSignal): AsyncGenerator<ServerStatus, void, undefined> {
    while (!signal.aborted) {
      yield await this.read();
      await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS).unref());
    }
  }

  async #sample(): Promise<Sample> {
    const { replicas, metrics, modelName, hasChatTemplate } = this.#source;
    const ranks = await Promise.all(replicas.replicas.map(rankStats));
    const atMs = performance.now();
    const tokens = replicas.replicas.map(({ index }) => metrics.tokenCounts(index));
    const { layout } = replicas.model;
    const now = { atMs, tokens, ranks };
    const status = {
      model: modelName,
      max_model_len: layout.maxModelLen,
      dtype: layout.dtype,
      kv_cache_dtype: layout.kvCacheDType,
      has_chat_template: hasChatTemplate,
      uptime_s: (atMs - this.#startMs) / 1000,
      is_draining: replicas.isDraining,
      replicas: replicas.replicas.map((replica) => replicaStatus(replica, now, this.#last)),
    };
    this.#last = { ...now, status };
    return this.#last;
  }
}

function replicaStatus(
  replica: Replica,
  now: Omit<Sample, "status">,
  before: Sample | null,
): ReplicaStatus {
  const { index, state, cause, model, numRestarts } = replica;
  const { stats } = model.llm.engine;
  const { numBlocks, blockSize, maxNumSeqs } = model.executor.limits;
  const seconds = before === null ? Infinity : (now.atMs - before.atMs) / 1000;
  const rate = (field: "prompt" | "generated"): number =>
    ((now.tokens[index]?.[field] ?? 0) - (before?.tokens[index]?.[field] ?? 0)) / seconds;
  return {
    replica: index,
    state,
    cause: cause?.message ?? null,
    num_restarts: numRestarts,
    num_running: stats.numRunning,
    num_waiting: stats.numWaiting,
    max_num_seqs: maxNumSeqs,
    used_blocks: stats.numUsedBlocks,
    num_blocks: numBlocks,
    block_size: blockSize,
    prompt_tokens_per_s: rate("prompt"),
    generated_tokens_per_s: rate("generated"),
    ranks: model.layout.ranks.map((layout) => {
      const at = ({ rank }: RankStats): boolean => rank === layout.rank;
      return rankStatus(
        layout,
        now.ranks[index]?.find(at),
        before?.ranks[index]?.find(at),
        seconds,
      );
    }),
  };
}

function rankStatus(
  layout: RankLayout,
  now: RankStats | undefined,
  before: RankStats | undefined,
  seconds: number,
): RankStatus {
  // Counters that went backwards belong to a new worker, or were reset.
  const steps = Math.max(0, (now?.numSteps ?? 0) - (before?.numSteps ?? 0));
  const collectiveMs = Math.max(0, (now?.collectiveMs ?? 0) - (before?.collectiveMs ?? 0));
  return {
    rank: layout.rank,
    tp_rank: layout.tpRank,
    pp_rank: layout.ppRank,
    device_index: layout.deviceIndex,
    device: layout.deviceName,
    is_virtual: layout.isVirtual,
    layers: layout.layers,
    weight_bytes: layout.weightBytes,
    collective_ms_per_step: steps === 0 ? null : collectiveMs / steps,
    steps_per_s: steps / seconds,
  };
}
