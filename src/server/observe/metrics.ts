/** Prometheus metrics, under vLLM's names where it has one for the same thing. */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { RequestOutput } from "../../runtime/request.ts";
import type { RequestStream } from "../../runtime/requestStream.ts";
import type { ReplicaSet, RequestObserver } from "../replicas/replicaSet.ts";

// vLLM's buckets, so that its dashboards work as they are.
const TTFT_S = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
];
const TOKEN_S = [
  0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40,
];
const REQUEST_S = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480];
const TOKENS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000];

/** `engine` is the replica's number. */
const LABELS = ["model_name", "engine"] as const;

interface RequestClock {
  readonly arrivalMs: number;
  lastMs: number;
  numTokens: number;
}

/** Token counts of one replica since the start, for the live page. */
export interface TokenCounts {
  readonly prompt: number;
  readonly generated: number;
}

export class ServerMetrics implements RequestObserver {
  readonly #registry = new Registry();
  readonly #model: string;
  readonly #clocks = new WeakMap<RequestStream, RequestClock>();
  readonly #counts = new Map<number, { prompt: number; generated: number }>();
  readonly #ttft = this.#histogram("vllm:time_to_first_token_seconds", "Time to first token.", TTFT_S);
  readonly #interToken = this.#histogram(
    "vllm:inter_token_latency_seconds",
    "Time between two tokens of a request.",
    TOKEN_S,
  );
  readonly #perToken = this.#histogram(
    "vllm:request_time_per_output_token_seconds",
    "Mean time of a request's tokens after the first.",
    TOKEN_S,
  );
  readonly #e2e = this.#histogram(
    "vllm:e2e_request_latency_seconds",
    "From arrival to the last token.",
    REQUEST_S,
  );
  readonly #promptLength = this.#histogram("vllm:request_prompt_tokens", "Prompt tokens.", TOKENS);
  readonly #completionLength = this.#histogram(
    "vllm:request_generation_tokens",
    "Generated tokens of a request.",
    TOKENS,
  );
  readonly #promptTokens = this.#counter("vllm:prompt_tokens_total", "Prompt tokens taken in.");
  readonly #generated = this.#counter("vllm:generation_tokens_total", "Tokens generated.");
  readonly #failed = this.#counter("tandem:request_failure_total", "Requests lost with a worker.");
  readonly #success = new Counter({
    name: "vllm:request_success_total",
    help: "Finished requests.",
    labelNames: [...LABELS, "finished_reason"],
    registers: [this.#registry],
  });

  constructor(modelName: string) {
    this.#model = modelName;
    collectDefaultMetrics({ register: this.#registry });
  }

  /** Adds the gauges that are read from the replicas at each scrape. */
  watch(replicas: ReplicaSet): void {
    const gauge = (name: string, help: string, read: (index: number) => number): void => {
      const collect = (): void => {
        for (const { index } of replicas.replicas) made.set(this.#labels(index), read(index));
      };
      const registers = [this.#registry];
      const made = new Gauge({ name, help, labelNames: LABELS, registers, collect });
    };
    const at = (index: number) => replicas.replicas[index]; // eslint-disable-line
    const stats = (index: number) => at(index)?.model.llm.engine.stats; // eslint-disable-line
    gauge("vllm:num_requests_running", "Requests in the batch.", (i) => stats(i)?.numRunning ?? 0);
    gauge("vllm:num_requests_waiting", "Requests that wait.", (i) => stats(i)?.numWaiting ?? 0);
    gauge("vllm:kv_cache_usage_perc", "Used part of the KV cache; 1 is all of it.", (i) => {
      const blocks = at(i)?.model.executor.limits.numBlocks ?? 1;
      return (stats(i)?.numUsedBlocks ?? 0) / blocks;
    });
  }
}
