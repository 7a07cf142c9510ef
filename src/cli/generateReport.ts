/** What one generation was and cost, for people and as JSON. */
import type { LayoutReport } from "../runtime/engineArgs.ts";
import type { LoadTimings } from "../runtime/loadTimings.ts";
import type { FinishReason, RequestTimings } from "../runtime/request.ts";
import type { RunStats } from "../runtime/stats.ts";
import { coldStart, coldStartAsJson, describeColdStart } from "./coldStart.ts";
import { formatFigure } from "./table.ts";

/** A finished generation. */
export interface GenerationRun {
  readonly text: string;
  readonly promptTokenIds: readonly number[];
  readonly tokenIds: readonly number[];
  readonly finishReason: FinishReason;
  readonly timings: RequestTimings;
  /** Of the steps after the first token. */
  readonly decodeStats: RunStats;
  /** Measured on rank 0's device; null where the run was stopped. */
  readonly bandwidthGBps: number | null;
  readonly loadMs: number;
  /** Idle part of the pipeline's stage-steps, 0 to 1, as estimated from the plans. */
  readonly bubbleFraction: number;
  readonly load: LoadTimings;
  readonly layout: LayoutReport;
}

/** Speeds beside their bounds; null where too few tokens were generated to tell. */
interface Speed {
  readonly ttftMs: number | null;
  readonly tokPerSecond: number | null;
  /** Weight bytes read a second by all ranks. */
  readonly weightGBps: number | null;
  /** Achieved over measured bandwidth. */
  readonly utilization: number | null;
  /** Of the rank that spent most. */
  readonly collectiveMsPerToken: number | null;
  /** Of all ranks. */
  readonly collectiveBytesPerToken: number | null;
}

/**
 * MBU counts the devices that read at the same time: those of one pipeline stage, since a single
 * sequence is in one stage at a time, and virtual devices share the bandwidth of one.
 */
function numParallelDevices({ ranks }: LayoutReport): number {
  const stages = Map.groupBy(ranks, ({ ppRank }) => ppRank);
  const sizes = [...stages.values()].map(
    (stage) => new Set(stage.map(({ deviceIndex }) => deviceIndex)).size,
  );
  return Math.max(1, ...sizes);
}

function speedOf(run: GenerationRun): Speed {
  const { timings, tokenIds, decodeStats, bandwidthGBps, layout } = run;
  const { ranks, bytesPerToken } = decodeStats;
  const tokPerSecond = timings.tpotMs === null ? null : 1000 / timings.tpotMs;
  const weightGBps = tokPerSecond === null ? null : (bytesPerToken * tokPerSecond) / 1e9;
  const hasBound = weightGBps !== null && bandwidthGBps !== null;
  // Not numSteps: a rank counts a step when it begins, and some began before the first token was out.
  const numSteps = tokenIds.length - 1;
  const bytes = ranks.reduce((sum, rank) => sum + rank.collectiveBytes, 0);
  const longestMs = Math.max(0, ...ranks.map((rank) => rank.collectiveMs));
  return {
    ttftMs: timings.ttftMs,
    tokPerSecond,
    weightGBps,
    utilization: hasBound ? weightGBps / (bandwidthGBps * numParallelDevices(layout)) : null,
    collectiveMsPerToken: numSteps < 1 ? null : longestMs / numSteps,
    collectiveBytesPerToken: numSteps < 1 ? null : bytes / numSteps,
  };
}

/** The lines after the text. */
export function describeRun(run: GenerationRun): string {
  const { promptTokenIds, tokenIds, finishReason, loadMs, bandwidthGBps, layout } = run;
  const speed = speedOf(run);
  const lines = [
    `${promptTokenIds.length} + ${tokenIds.length} tokens, ended by ${finishReason ?? "nothing"}; loaded in ${formatFigure(loadMs)} ms`,
  ];
  const cold = coldStart(run.load, run.timings);
  if (cold !== undefined) lines.push(describeColdStart(cold));
  if (speed.ttftMs !== null) lines.push(`TTFT ${formatFigure(speed.ttftMs)} ms`);
  if (speed.tokPerSecond !== null && speed.weightGBps !== null) {
    const bound =
      speed.utilization === null || bandwidthGBps === null
        ? ""
        : `, ${formatFigure(speed.utilization * 100)} % of ${formatBound(layout, bandwidthGBps)}`;
    lines.push(
      `decode ${formatFigure(speed.tokPerSecond)} tok/s = ${formatFigure(speed.weightGBps)} GB/s of weights${bound}`,
    );
  }
  if (layout.ranks.length > 1 && speed.collectiveMsPerToken !== null) {
    const bytes = formatFigure(speed.collectiveBytesPerToken ?? 0);
    const ofMs = formatFigure(run.timings.tpotMs ?? Number.NaN);
    lines.push(
      `collectives ${formatFigure(speed.collectiveMsPerToken)} ms of ${ofMs} ms a token, ${bytes} bytes`,
    );
  }
  if (layout.ppSize > 1) {
    const percent = formatFigure(run.bubbleFraction * 100);
    lines.push(
      `pipeline bubble ${percent} %: stage-steps without work; several sequences at once fill them`,
    );
  }
  return lines.join("\n");
}

function formatBound(layout: LayoutReport, bandwidthGBps: number): string {
  const devices = numParallelDevices(layout);
  const measured = `${formatFigure(bandwidthGBps)} GB/s measured`;
  return devices === 1 ? measured : `${devices} x ${measured}`;
}

/** The object that --json prints. */
export function runAsJson(run: GenerationRun): Record<string, unknown> {
  const { promptTokenIds, tokenIds } = run;
  const speed = speedOf(run);
  return {
    text: run.text,
    prompt_token_ids: promptTokenIds,
    token_ids: tokenIds,
    finish_reason: run.finishReason,
    usage: {
      prompt_tokens: promptTokenIds.length,
      completion_tokens: tokenIds.length,
      total_tokens: promptTokenIds.length + tokenIds.length,
    },
    timings: {
      load_ms: run.loadMs,
      cold_start: coldStartAsJson(coldStart(run.load, run.timings)),
      ttft_ms: speed.ttftMs,
      tpot_ms: run.timings.tpotMs,
      decode_tok_per_s: speed.tokPerSecond,
      decode_gb_per_s: speed.weightGBps,
      device_gb_per_s: run.bandwidthGBps,
      mbu: speed.utilization,
      collective_ms_per_token: speed.collectiveMsPerToken,
      collective_bytes_per_token: speed.collectiveBytesPerToken,
      pipeline_bubble_fraction: run.layout.ppSize > 1 ? run.bubbleFraction : null,
    },
    layout: layoutAsJson(run.layout),
  };
}

/** A layout as all commands' JSON has it; `devices` has an entry a rank. */
export function layoutAsJson(layout: LayoutReport): Record<string, unknown> {
  return {
    model: layout.model,
    tp: layout.tpSize,
    pp: layout.ppSize,
    executor: layout.executor,
    dtype: layout.dtype,
    kv_cache_dtype: layout.kvCacheDType,
    max_model_len: layout.maxModelLen,
    devices: layout.ranks.map((rank) => ({
      rank: rank.rank,
      tp_rank: rank.tpRank,
      pp_rank: rank.ppRank,
      index: rank.deviceIndex,
      name: rank.deviceName,
      virtual: rank.isVirtual,
      layers: [rank.layers.begin, rank.layers.end],
      heads: [rank.heads.begin, rank.heads.end],
      kv_heads: [rank.kvHeads.begin, rank.kvHeads.end],
      vocab: rank.vocab === undefined ? null : [rank.vocab.begin, rank.vocab.end],
      weight_bytes: rank.weightBytes,
    })),
  };
}
