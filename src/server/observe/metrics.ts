/** Prometheus metrics of requests, under vLLM's names where it has one for the same thing. */
import { collectDefaultMetrics, Counter, Histogram, Registry } from "prom-client";
import type { RequestOutput } from "../../runtime/request.ts";
import type { RequestStream } from "../../runtime/requestStream.ts";
import type { RequestObserver } from "../replicas/replicaSet.ts";

// vLLM's buckets, so that its dashboards work as they are.
const TTFT_S = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
];
const TOKEN_S = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5,
];
const REQUEST_S = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480];
const TOKENS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000];

/** `engine` is the replica's number. */
export const LABELS = ["model_name", "engine"] as const;
type Label = (typeof LABELS)[number];

interface RequestClock {
  lastMs: number;
  numTokens: number;
}

/** Tokens of one replica since the server started. */
export interface TokenCounts {
  readonly prompt: number;
  readonly generated: number;
}

export class ServerMetrics implements RequestObserver {
  readonly registry = new Registry();
  readonly #model: string;
  readonly #now: () => number;
  readonly #clocks = new WeakMap<RequestStream, RequestClock>();
  readonly #counts = new Map<number, TokenCounts>();
  readonly #histograms = requestHistograms(this.registry);
  readonly #counters = requestCounters(this.registry);

  constructor(modelName: string, now: () => number = () => performance.now()) {
    this.#model = modelName;
    this.#now = now;
    collectDefaultMetrics({ register: this.registry });
  }

  labels(replicaIndex: number): Record<Label, string> {
    return { model_name: this.#model, engine: String(replicaIndex) };
  }

  tokenCounts(replicaIndex: number): TokenCounts {
    return this.#counts.get(replicaIndex) ?? { prompt: 0, generated: 0 };
  }

  onOutput(replicaIndex: number, stream: RequestStream, output: RequestOutput): void {
    const [labels, nowMs] = [this.labels(replicaIndex), this.#now()];
    const clock = this.#clocks.get(stream) ?? this.#begin(replicaIndex, stream);
    if (output.tokenId !== null) {
      if (clock.numTokens > 0) {
        this.#histograms.interToken.observe(labels, (nowMs - clock.lastMs) / 1000);
      }
      clock.lastMs = nowMs;
      clock.numTokens += 1;
      this.#count(replicaIndex, { prompt: 0, generated: 1 });
    }
    if (output.finishReason !== null) this.#end(replicaIndex, stream, clock, output.finishReason);
  }

  onFailure(replicaIndex: number): void {
    this.#counters.failed.inc(this.labels(replicaIndex));
  }

  async text(): Promise<string> {
    return await this.registry.metrics();
  }

  #begin(replicaIndex: number, stream: RequestStream): RequestClock {
    const clock = { lastMs: 0, numTokens: 0 };
    this.#clocks.set(stream, clock);
    const [labels, promptLength] = [
      this.labels(replicaIndex),
      stream.request.promptTokenIds.length,
    ];
    this.#histograms.promptLength.observe(labels, promptLength);
    this.#count(replicaIndex, { prompt: promptLength, generated: 0 });
    const { ttftMs } = stream.timings;
    if (ttftMs !== null) this.#histograms.ttft.observe(labels, ttftMs / 1000);
    return clock;
  }

  #end(index: number, stream: RequestStream, clock: RequestClock, reason: string): void {
    const labels = this.labels(index);
    const { arrivalMs, lastTokenMs, tpotMs, queueMs } = stream.timings;
    this.#counters.success.inc({ ...labels, finished_reason: reason });
    this.#histograms.completionLength.observe(labels, clock.numTokens);
    if (lastTokenMs !== null)
      this.#histograms.e2e.observe(labels, (lastTokenMs - arrivalMs) / 1000);
    if (queueMs !== null) this.#histograms.queue.observe(labels, queueMs / 1000);
    if (tpotMs !== null) this.#histograms.perToken.observe(labels, tpotMs / 1000);
  }

  #count(replicaIndex: number, { prompt, generated }: TokenCounts): void {
    const [labels, before] = [this.labels(replicaIndex), this.tokenCounts(replicaIndex)];
    this.#counters.prompt.inc(labels, prompt);
    this.#counters.generated.inc(labels, generated);
    const [prompts, all] = [before.prompt + prompt, before.generated + generated];
    this.#counts.set(replicaIndex, { prompt: prompts, generated: all });
  }
}

// Return types are what prom-client infers from the label names.
function requestHistograms(
  registry: Registry,
): Record<
  "ttft" | "interToken" | "queue" | "perToken" | "e2e" | "promptLength" | "completionLength",
  Histogram<Label>
> {
  const histogram = (name: string, help: string, buckets: number[]): Histogram<Label> =>
    new Histogram({ name, help, buckets, labelNames: LABELS, registers: [registry] });
  return {
    ttft: histogram("vllm:time_to_first_token_seconds", "Time to first token.", TTFT_S),
    interToken: histogram(
      "vllm:inter_token_latency_seconds",
      "Time between two tokens of a request.",
      TOKEN_S,
    ),
    perToken: histogram(
      "vllm:request_time_per_output_token_seconds",
      "Mean time of a request's tokens after the first.",
      TOKEN_S,
    ),
    e2e: histogram(
      "vllm:e2e_request_latency_seconds",
      "From arrival to the last token.",
      REQUEST_S,
    ),
    queue: histogram(
      "vllm:request_queue_time_seconds",
      "From arrival to the first step.",
      REQUEST_S,
    ),
    promptLength: histogram("vllm:request_prompt_tokens", "Prompt tokens of a request.", TOKENS),
    completionLength: histogram(
      "vllm:request_generation_tokens",
      "Generated tokens of a request.",
      TOKENS,
    ),
  };
}

interface RequestCounters {
  readonly prompt: Counter<Label>;
  readonly generated: Counter<Label>;
  readonly failed: Counter<Label>;
  readonly success: Counter<Label | "finished_reason">;
}

function requestCounters(registry: Registry): RequestCounters {
  const registers = [registry];
  const counter = (name: string, help: string): Counter<Label> =>
    new Counter({ name, help, labelNames: LABELS, registers });
  const name = "vllm:request_success_total";
  const labelNames = [...LABELS, "finished_reason"] as const;
  return {
    prompt: counter("vllm:prompt_tokens_total", "Prompt tokens of requests that got a token."),
    generated: counter("vllm:generation_tokens_total", "Tokens generated."),
    failed: counter(
      "tandem:request_failure_total",
      "Requests that a failed worker ended or moved.",
    ),
    success: new Counter({ name, help: "Requests that ended.", labelNames, registers }),
  };
}
