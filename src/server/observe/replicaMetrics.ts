/** Metrics that are read from the replicas at each scrape. */
import { Counter, Gauge } from "prom-client";
import type { Replica } from "../replicas/replica.ts";
import type { ReplicaSet } from "../replicas/replicaSet.ts";
import { LABELS, type ServerMetrics } from "./metrics.ts";
import { rankStats } from "./rankStats.ts";

/** Registers them; `replicas` lives as long as the metrics. */
export function watchReplicas(metrics: ServerMetrics, { replicas }: ReplicaSet): void {
  const registers = [metrics.registry];
  const gauge = (name: string, help: string, read: (replica: Replica) => number): void => {
    const collect = (): void => {
      for (const replica of replicas) made.set(metrics.labels(replica.index), read(replica));
    };
    const made: Gauge = new Gauge({ name, help, labelNames: LABELS, registers, collect });
  };
  // A restarted replica counts from 0 again, which Prometheus takes for what it is: a reset.
  const counter = (name: string, help: string, read: (replica: Replica) => number): void => {
    const collect = (): void => {
      made.reset();
      for (const replica of replicas) made.inc(metrics.labels(replica.index), read(replica));
    };
    const made: Counter = new Counter({ name, help, labelNames: LABELS, registers, collect });
  };
  const stats = ({ model }: Replica): Replica["model"]["llm"]["engine"]["stats"] =>
    model.llm.engine.stats;
  gauge("vllm:num_requests_running", "Requests in the batch.", (each) => stats(each).numRunning);
  gauge("vllm:num_requests_waiting", "Requests that wait.", (each) => stats(each).numWaiting);
  gauge("vllm:kv_cache_usage_perc", "Used part of the KV cache; 1 is all of it.", kvUsage);
  counter("vllm:num_preemptions_total", "Sequences that lost their blocks for a while.", (each) => {
    return stats(each).numPreemptions;
  });
  counter(
    "vllm:prefix_cache_queries_total",
    "Prompt tokens looked up in the prefix cache.",
    (each) => {
      return stats(each).numPrefixQueryTokens;
    },
  );
  counter("vllm:prefix_cache_hits_total", "Prompt tokens found there.", (each) => {
    return stats(each).numPrefixHitTokens;
  });
  gauge("tandem:pipeline_bubble_fraction", "Part of stage-steps without work.", (each) => {
    return stats(each).bubbleFraction;
  });
  gauge("tandem:replica_up", "1 while the replica takes requests.", ({ state }) => {
    return state === "ready" ? 1 : 0;
  });
  counter("tandem:replica_restarts_total", "Restarts after a failure.", (each) => each.numRestarts);
  watchCollectives(metrics, replicas);
}

/** Used part of a replica's KV cache, 0 to 1. */
export function kvUsage({ model }: Replica): number {
  return model.llm.engine.stats.numUsedBlocks / model.executor.limits.numBlocks;
}

function watchCollectives(metrics: ServerMetrics, replicas: readonly Replica[]): void {
  const labelNames = [...LABELS, "rank"];
  const collect = async (): Promise<void> => {
    const all = await Promise.all(
      replicas.map(async (replica) => ({ replica, ranks: await rankStats(replica) })),
    );
    seconds.reset();
    for (const { replica, ranks } of all) {
      for (const { rank, collectiveMs } of ranks) {
        const labels = { ...metrics.labels(replica.index), rank: String(rank) };
        seconds.inc(labels, collectiveMs / 1000);
      }
    }
  };
  const seconds: Counter = new Counter({
    name: "tandem:collective_seconds_total",
    help: "Host time in collectives that later commands waited for.",
    labelNames,
    registers: [metrics.registry],
    collect,
  });
}
