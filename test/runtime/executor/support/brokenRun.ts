/**
 * A process that generates over two ranks while one of them breaks, and prints what became of its
 * requests: `node --import rankFaults.ts brokenRun.ts '{"model": …}'`. It ends by itself, so that
 * anything that would keep a process alive shows.
 */
import { DEFAULT_ENGINE_ARGS, type ExecutorKind } from "../../../../src/runtime/engineArgs.ts";
import { loadModel } from "../../../../src/runtime/loadModel.ts";
import type { RequestStream } from "../../../../src/runtime/requestStream.ts";
import { breakRank, type RankFault } from "./rankFaults.ts";

export interface BrokenRun {
  readonly model: string;
  readonly device: number;
  readonly executor: ExecutorKind;
  readonly fault: RankFault;
  readonly rank: number;
  /** While tokens come, or between requests. */
  readonly when: "busy" | "idle";
  readonly collectiveTimeoutMs: number;
  /** With two micro-batches at once; false if left out. */
  readonly isOverlapped?: boolean;
}

export interface BrokenRunReport {
  /** What each request that ran failed with; of one that did not fail, how it ended. */
  readonly failures: readonly string[];
  /** What a request after the failure fails with. */
  readonly laterFailure: string;
  readonly failedAfterMs: number;
  readonly shutdownMs: number;
}

const run = JSON.parse(process.argv[2] ?? "{}") as BrokenRun;
const { llm } = await loadModel({
  ...DEFAULT_ENGINE_ARGS,
  ...{ maxNumSeqs: 2, maxNumBatchedTokens: 8, kvCacheDType: "f32", tpSize: 2 },
  model: run.model,
  devices: [run.device],
  executor: run.executor,
  collectiveTimeoutMs: run.collectiveTimeoutMs,
  enableDualBatchOverlap: run.isOverlapped === true,
});
const options = { temperature: 0, maxTokens: 400, ignoreEos: true };
const generate = (): RequestStream => llm.generate([5, 17, 3], options);

async function outcome(stream: () => RequestStream): Promise<string> {
  try {
    return `ended: ${(await stream().collect()).finishReason}`;
  } catch (error) {
    return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  }
}

let begin = 0;
async function report(): Promise<BrokenRunReport> {
  if (run.when === "idle") {
    await llm.generate([5, 17, 3], { ...options, maxTokens: 3 }).collect();
    begin = performance.now();
    breakRank(run.rank, run.fault);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  const streams = run.when === "busy" ? [generate(), generate()] : [];
  const first = streams[0];
  const broken = waitForTokens(first, 5).then(() => {
    begin = performance.now();
    breakRank(run.rank, run.fault);
  });
  const outcomes = streams.map((stream) => outcome(() => stream));
  const failures = await Promise.all(outcomes);
  await broken;
  const laterFailure = await outcome(generate);
  const failedAfterMs = performance.now() - begin;
  const stopping = performance.now();
  await llm.shutdown();
  return { failures, laterFailure, failedAfterMs, shutdownMs: performance.now() - stopping };
}

/** Polls, as each stream has one reader. */
async function waitForTokens(stream: RequestStream | undefined, numTokens: number): Promise<void> {
  if (stream === undefined) return;
  while (stream.timings.tpotMs === null || numTokensOf(stream) < numTokens) {
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

function numTokensOf({ timings }: RequestStream): number {
  const { tpotMs, firstTokenMs, lastTokenMs } = timings;
  if (tpotMs === null || firstTokenMs === null || lastTokenMs === null) return 1;
  return 1 + Math.round((lastTokenMs - firstTokenMs) / tpotMs);
}

console.log(JSON.stringify(await report()));
