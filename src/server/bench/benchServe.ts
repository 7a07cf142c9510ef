/** `bench serve`: a server under load, at one request rate after the other. */
import type { BenchTarget } from "./client.ts";
import { sendAll } from "./client.ts";
import { type GoodputLimits, type ServeSummary, summarise } from "./summary.ts";
import { arrivalTimesMs, type BenchRequest } from "./workload.ts";

export interface ServeBenchmark {
  readonly target: BenchTarget;
  readonly requests: readonly BenchRequest[];
  /** Requests a second of each run; Infinity sends all at once. */
  readonly requestRates: readonly number[];
  readonly maxConcurrency: number;
  readonly goodput: GoodputLimits;
  readonly seed: number;
}

/** Every rate's figures, in the order of the rates. */
export async function benchServe(
  benchmark: ServeBenchmark,
  onRun: (summary: ServeSummary) => void = () => undefined,
): Promise<ServeSummary[]> {
  const { target, requests, requestRates, maxConcurrency, goodput, seed } = benchmark;
  await sendAll(target, requests.slice(0, 1), [0], 1); // first dispatches compile on some adapters
  const summaries: ServeSummary[] = [];
  for (const rate of requestRates) {
    const arrivals = arrivalTimesMs(requests.length, rate, seed);
    const samples = await sendAll(target, requests, arrivals, maxConcurrency);
    const summary = summarise(samples, rate, goodput);
    onRun(summary);
    summaries.push(summary);
  }
  return summaries;
}
