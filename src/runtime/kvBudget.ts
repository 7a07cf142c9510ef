/**
 * How many KV blocks every rank holds: the arithmetic of weights, activations and KV cache within what an
 * adapter has. Pure; the executor measures and allocates.
 */
import { UsageError } from "../common/errors.ts";
import { ceilDiv } from "../common/math.ts";
import type { RankReport, RunSpec } from "./rankSpec.ts";

/** What of an adapter's memory may be used when nobody says, as in vLLM: the rest is the driver's and other programs'. */
const DEFAULT_UTILIZATION = 0.9;
/** A software adapter's memory is the host's: it is never probed, and the KV cache of all ranks on it stays under this. */
const SOFTWARE_KV_BYTES = 1 << 30;
const MIB = 1 << 20;

/** Where a rank's limit comes from. */
export type LimitSource = "flag" | "measured" | "software";

/** One rank's memory as it is planned, in bytes. */
export interface RankMemory {
  readonly rank: number;
  readonly deviceName: string;
  readonly weightBytes: number;
  /** Temporary tensors, inputs and the sampler's tables: estimated until the rank has started. */
  readonly activationBytes: number;
  readonly kvBytes: number;
  readonly kvBlockBytes: number;
  /** Blocks that the limit leaves room for; every rank holds the least of all ranks'. */
  readonly maxBlocks: number;
  /** What weights, activations and KV cache may take together. */
  readonly limitBytes: number;
  readonly source: LimitSource;
}

export interface KvPlan {
  readonly numBlocks: number;
  readonly blockSize: number;
  /** Blocks of a sequence of maxModelLen. */
  readonly blocksPerSequence: number;
  readonly ranks: readonly RankMemory[];
}

/** Bytes that were found free on an adapter, by deviceIndex, after every rank on it had its weights. */
export type FreeBytes = ReadonlyMap<number, number>;

type Run = Pick<
  RunSpec,
  "maxModelLen" | "maxNumSeqs" | "blockSize" | "gpuMemoryUtilization" | "kvCacheMemoryMiB"
>;

/** Every sequence slot at full length. */
function wantedBlocks({ maxModelLen, maxNumSeqs, blockSize }: Run): number {
  return ceilDiv(maxModelLen, blockSize) * maxNumSeqs;
}

const sum = (values: readonly number[]): number =>
  values.reduce((total, value) => total + value, 0);

/** The part of an adapter that this copy of the model may use: others are yet to be loaded onto it. */
function shareOf(onDevice: readonly RankReport[]): number {
  return onDevice.length / (onDevice.length + (onDevice[0]?.numRanksToCome ?? 0));
}

/**
 * Free bytes of an adapter beyond which there is nothing to plan for; 0 where nothing is to be measured.
 * `onDevice` are the reports of the ranks on one adapter.
 */
export function bytesToProbe(run: Run, onDevice: readonly RankReport[]): number {
  const isSoftware = onDevice.some((report) => report.isSoftware);
  if (run.kvCacheMemoryMiB !== null || isSoftware) return 0;
  if (run.gpuMemoryUtilization !== null) return Infinity;
  const wanted = wantedBlocks(run);
  const weights = sum(onDevice.map(({ weightBytes }) => weightBytes));
  const rest = sum(onDevice.map((each) => wanted * each.kvBlockBytes + each.activationBytes));
  return (weights + rest) / shareOf(onDevice) / DEFAULT_UTILIZATION - weights;
}

/** Bytes for the KV cache of one rank. */
function kvBytesOf(
  run: Run,
  report: RankReport,
  onDevice: readonly RankReport[],
  freeBytes: number,
): { readonly bytes: number; readonly source: LimitSource } {
  if (run.kvCacheMemoryMiB !== null) return { bytes: run.kvCacheMemoryMiB * MIB, source: "flag" };
  if (report.isSoftware) {
    return { bytes: SOFTWARE_KV_BYTES / report.numRanksOnDevice, source: "software" };
  }
  const weights = sum(onDevice.map(({ weightBytes }) => weightBytes));
  const activations = sum(onDevice.map(({ activationBytes }) => activationBytes));
  const utilization = run.gpuMemoryUtilization ?? DEFAULT_UTILIZATION;
  const usable = (freeBytes + weights) * utilization * shareOf(onDevice);
  return { bytes: (usable - weights - activations) / onDevice.length, source: "measured" };
}

/** Throws a UsageError with the arithmetic when not even one sequence of maxModelLen fits. */
export function planKvCache(run: Run, reports: readonly RankReport[], free: FreeBytes): KvPlan {
  const blocksPerSequence = ceilDiv(run.maxModelLen, run.blockSize);
  const limits = reports.map((report) => {
    const onDevice = reports.filter(({ deviceIndex }) => deviceIndex === report.deviceIndex);
    const { bytes, source } = kvBytesOf(run, report, onDevice, free.get(report.deviceIndex) ?? 0);
    const byBytes = Math.max(0, Math.floor(bytes / report.kvBlockBytes));
    const maxBlocks = Math.min(byBytes, report.maxBindingBlocks);
    return { report, bytes: Math.max(0, bytes), source, maxBlocks };
  });
  const available = Math.min(...limits.map(({ maxBlocks }) => maxBlocks));
  if (available < blocksPerSequence) throw tooSmall(run, blocksPerSequence, available);
  // Who names a size wants it used: what no sequence needs keeps prefixes.
  const isNamed = run.gpuMemoryUtilization !== null || run.kvCacheMemoryMiB !== null;
  const numBlocks = isNamed ? available : Math.min(available, wantedBlocks(run));
  const ranks = limits.map(({ report, bytes, source, maxBlocks }): RankMemory => {
    const { rank, deviceName, weightBytes, activationBytes, kvBlockBytes } = report;
    const limitBytes = weightBytes + activationBytes + bytes;
    const sizes = { weightBytes, activationBytes, kvBytes: numBlocks * kvBlockBytes, kvBlockBytes };
    return { rank, deviceName, ...sizes, maxBlocks, limitBytes, source };
  });
  return { numBlocks, blockSize: run.blockSize, blocksPerSequence, ranks };
}

function tooSmall(run: Run, blocksPerSequence: number, available: number): UsageError {
  const { blockSize, maxModelLen } = run;
  const shorter =
    available > 0 ? `--max-model-len ${available * blockSize} or less, ` : "a smaller model, ";
  return new UsageError({
    what: "KV cache",
    expected: `${blocksPerSequence} blocks of ${blockSize} tokens for a sequence of maxModelLen ${maxModelLen}`,
    got: `room for ${available} on the tightest rank`,
    remedy: `use ${shorter}more --kv-cache-memory-mib or --gpu-memory-utilization, more ranks, or --kv-cache-dtype f16`,
  });
}
