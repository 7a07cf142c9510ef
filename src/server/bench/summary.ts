/** From samples to the figures that serving is judged by; the names are those of vLLM's bench serve. */
import { quantile } from "../../common/math.ts";
import type { BenchSample } from "./client.ts";

/** Milliseconds. */
export interface Spread {
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
}

/** Milliseconds a request may take to count as good; what is left out may take any time. */
export interface GoodputLimits {
  readonly ttft?: number;
  readonly tpot?: number;
  readonly e2el?: number;
}

export interface ServeSummary {
  /** Requests a second that were offered; Infinity for all at once. */
  readonly requestRate: number;
  readonly numCompleted: number;
  readonly numFailed: number;
  readonly firstError: string | null;
  readonly durationS: number;
  readonly numPromptTokens: number;
  readonly numOutputTokens: number;
  readonly requestsPerS: number;
  /** Over all requests. */
  readonly outputTokPerS: number;
  readonly totalTokPerS: number;
  /** Good requests a second; null without limits. */
  readonly goodputPerS: number | null;
  readonly ttftMs: Spread;
  readonly tpotMs: Spread;
  readonly itlMs: Spread;
  readonly e2elMs: Spread;
}

export function summarise(
  samples: readonly BenchSample[],
  requestRate: number,
  limits: GoodputLimits = {},
): ServeSummary {
  const done = samples.filter(({ error, numTokens }) => error === null && numTokens > 0);
  const failed = samples.filter((sample) => !done.includes(sample));
  const durationS = Math.max(0, ...samples.map(({ endMs }) => endMs)) / 1000;
  const sum = (read: (sample: BenchSample) => number): number =>
    done.reduce((total, sample) => total + read(sample), 0);
  const [numPromptTokens, numOutputTokens] = [
    sum((sample) => sample.numPromptTokens),
    sum((sample) => sample.numTokens),
  ];
  const good = done.filter((sample) => isGood(sample, limits));
  return {
    requestRate,
    numCompleted: done.length,
    numFailed: failed.length,
    firstError: failed[0] === undefined ? null : (failed[0].error ?? "no token came"),
    durationS,
    numPromptTokens,
    numOutputTokens,
    requestsPerS: done.length / durationS,
    outputTokPerS: numOutputTokens / durationS,
    totalTokPerS: (numPromptTokens + numOutputTokens) / durationS,
    goodputPerS: Object.keys(limits).length === 0 ? null : good.length / durationS,
    ttftMs: spread(done.map(ttftMs)),
    tpotMs: spread(done.filter(({ numTokens }) => numTokens > 1).map(tpotMs)),
    itlMs: spread(done.flatMap(gapsMs)),
    e2elMs: spread(done.map(e2elMs)),
  };
}

function ttftMs({ sentMs, tokenMs }: BenchSample): number {
  return (tokenMs[0] ?? Number.NaN) - sentMs;
}

/** Mean time of each token after the first. */
function tpotMs({ tokenMs, numTokens }: BenchSample): number {
  return ((tokenMs.at(-1) ?? 0) - (tokenMs[0] ?? 0)) / (numTokens - 1);
}

function e2elMs({ sentMs, tokenMs }: BenchSample): number {
  return (tokenMs.at(-1) ?? Number.NaN) - sentMs;
}

function gapsMs({ tokenMs }: BenchSample): number[] {
  return tokenMs.slice(1).map((atMs, index) => atMs - (tokenMs[index] ?? atMs));
}

function isGood(sample: BenchSample, { ttft, tpot, e2el }: GoodputLimits): boolean {
  const isWithin = (value: number, limit: number | undefined): boolean =>
    limit === undefined || !(value > limit);
  return (
    isWithin(ttftMs(sample), ttft) &&
    isWithin(sample.numTokens > 1 ? tpotMs(sample) : 0, tpot) &&
    isWithin(e2elMs(sample), e2el)
  );
}

function spread(values: readonly number[]): Spread {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const at = (q: number): number => quantile(values, q);
  return { mean, p50: at(0.5), p90: at(0.9), p99: at(0.99) };
}
