/** Metrics that are read from the replicas at each scrape. */
import { Counter, Gauge } from "prom-client";
import type { Replica } from "../replicas/replica.ts";
import type { ReplicaSet } from "../replicas/replicaSet.ts";
import { LABELS, type ServerMetrics } from "./metrics.ts";
import { rankStats } from "./rankStats.ts";

type Stats = Replica["model"]["llm"]["engine"]["stats"];

/** Name, meaning, and how to read it now. */
type Reading<T> = readonly [name: string, help: string, read: (from: T) => number];

const GAUGES: readonly Reading<Stats>[] = [
  ["vllm:num_requests_running", "Requests in the batch.", (stats) => stats.numRunning],
  ["vllm:num_requests_waiting", "Requests that wait.", (stats) => stats.numWaiting],
  ["tandem:pipeline_bubble_fraction", "Stage-steps without work.", (stats) => stats.bubbleFraction],
];
const COUNTERS: readonly Reading<Stats>[] = [
  [
    "vllm:num_preemptions_total",
    "Sequences that lost their blocks.",
    (each) => each.numPreemptions,
  ],
  ["vllm:prefix_cache_queries_total", "Tokens looked up.", (each) => each.numPrefixQueryTokens],
  ["vllm:prefix_cache_hits_total", "Tokens found.", (each) => each.numPrefixHitTokens],
];

/** Registers them; `replicas` lives as long as the metrics. */
export function watchReplicas(metrics: ServerMetrics, { replicas }: ReplicaSet): void {
  const ofStats = ([name, help, read]: Reading<Stats>): Reading<Replica> => {
    return [name, help, ({ model }) => read(model.llm.engine.stats)];
  };
  const isUp = ({ state }: Replica): number => (state === "ready" ? 1 : 0);
  const gauges: Reading<Replica>[] = [
    ...GAUGES.map(ofStats),
    ["vllm:kv_cache_usage_perc", "Used part of the KV cache; 1 is all of it.", kvUsage],
    ["tandem:replica_up", "1 while the replica takes requests.", isUp],
  ];
  const counters: Reading<Replica>[] = [
    ...COUNTERS.map(ofStats),
    ["tandem:replica_restarts_total", "Restarts after a failure.", (each) => each.numRestarts],
  ];
  for (const reading of gauges) addGauge(metrics, replicas, reading);
  for (const reading of counters) addCounter(metrics, replicas, reading);
  watchCollectives(metrics, replicas);
}

function addGauge(
  metrics: ServerMetrics,
  replicas: readonly Replica[],
  [name, help, read]: Reading<Replica>,
): void {
  const registers = [metrics.registry];
  const collect = (): void => {
    for (const replica of replicas) made.set(metrics.labels(replica.index), read(replica));
  };
  const made: Gauge = new Gauge({ name, help, labelNames: LABELS, registers, collect });
}

// A restarted replica counts from 0 again, which Prometheus takes for what it is: a reset.
function addCounter(
  metrics: ServerMetrics,
  replicas: readonly Replica[],
  [name, help, read]: Reading<Replica>,
): void {
  const registers = [metrics.registry];
  const collect = (): void => {
    made.reset();
    for (const replica of replicas) made.inc(metrics.labels(replica.index), read(replica));
  };
  const made: Counter = new Counter({ name, help, labelNames: LABELS, registers, collect });
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
