/** From the user's choices to a spec for every rank: which part of the model, on which device. */
import { type ModelConfig } from "../../models/config.ts";
import { checkLayout, headShard, vocabShard } from "../../models/sharding.ts";
import { planBytes, shardPlan } from "../../models/weights/plan.ts";
import type { WeightDType } from "../common/dtype.ts";
import { AdapterError, UsageError } from "../common/errors.ts";
import type { AdapterInfo } from "../device/device.ts";
import type { EngineArgs, LayoutReport, OtherCopies, RankLayout } from "./engineArgs.ts";
import { groupNear } from "./placement.ts";
import { type ModelSpec, type RankSpec, type RunSpec, shardRank } from "./rankSpec.ts";

/** Tokens a KV block holds, as in vLLM. */
const BLOCK_SIZE = 16;
/** Without a wish of the user's: long enough for most uses, small enough for any device. */
const DEFAULT_MAX_MODEL_LEN = 8192;
const DEFAULT_BATCHED_TOKENS = { software: 512, hardware: 2048 } as const;
/** Steps, short and long ones, that wait for their tokens at once where stages do not need more; see Lookahead. */
const STEPS_IN_FLIGHT = { short: 3, long: 2 } as const;

export interface ResolvedLayout {
  readonly report: LayoutReport;
  readonly specs: readonly RankSpec[];
  readonly run: RunSpec;
}

/** Everything that can be wrong with a layout is found here, before any weight is read. */
export function resolveLayout(
  args: EngineArgs,
  model: ModelSpec,
  storedDType: WeightDType,
  adapters: readonly AdapterInfo[],
): ResolvedLayout {
  const { config } = model;
  checkLayout(config, args);
  checkOverlap(args);
  const worldSize = args.tpSize * args.ppSize;
  const devices = dealDevices(args.devices, adapters, worldSize, args.tpSize);
  const used = devices.map((index) => adapterAt(adapters, index));
  const run = resolveRun(args, config, used);
  const dtype = model.dtype === "auto" ? storedDType : model.dtype;
  const specs = devices.map((deviceIndex, rank) => ({
    rank,
    deviceIndex,
    ...rankCounts(deviceIndex, devices, args.otherCopies),
    disableRobustness: args.disableRobustness,
    isTraced: args.profile !== null,
    model,
    run,
  }));
  const ranks = specs.map((spec) =>
    rankLayout(spec, config, dtype, adapterAt(adapters, spec.deviceIndex)),
  );
  const { tpSize, ppSize, executor } = args;
  const { kvCacheDType, maxModelLen } = run;
  return {
    specs,
    run,
    report: {
      tpSize,
      ppSize,
      executor,
      model: args.model,
      dtype,
      kvCacheDType,
      maxModelLen,
      ranks,
    },
  };
}

/**
 * Deals the devices to world ranks in order, cyclically. Where the user names none, each run of tpSize
 * ranks, a tensor-parallel group, gets devices that are near each other.
 */
export function dealDevices(
  wanted: readonly number[] | null,
  adapters: readonly AdapterInfo[],
  worldSize: number,
  tpSize = worldSize,
): number[] {
  const wrong = wanted?.find((index) => adapters[index] === undefined);
  if (wrong !== undefined || adapters.length === 0) {
    throw new AdapterError({
      what: "--devices",
      expected:
        adapters.length === 0 ? "a WebGPU adapter" : `indices from 0 to ${adapters.length - 1}`,
      got: wrong ?? "none",
      remedy: "`node run.ts devices` lists them",
    });
  }
  const dealt = wanted ?? nearestTogether(bestKind(adapters), adapters, tpSize);
  return Array.from({ length: worldSize }, (_, rank) => dealt[rank % dealt.length] ?? 0);
}

function nearestTogether(
  devices: readonly number[],
  adapters: readonly AdapterInfo[],
  tpSize: number,
): number[] {
  const locations = devices.map((index) => adapters[index]?.physical ?? null);
  return groupNear(locations, tpSize).map((at) => devices[at] ?? 0);
}

/** All adapters of the first one's make if it is hardware; of software adapters, the first alone. */
export function bestKind(adapters: readonly AdapterInfo[]): number[] {
  const first = adapters[0];
  if (first === undefined || first.isSoftware) return [0];
  return adapters.flatMap(({ name }, index) => (name === first.name ? [index] : []));
}

function adapterAt(adapters: readonly AdapterInfo[], index: number): AdapterInfo {
  const info = adapters[index];
  if (info === undefined) throw new AdapterError({ what: "device", expected: "one", got: index });
  return info;
}

function resolveRun(args: EngineArgs, config: ModelConfig, used: readonly AdapterInfo[]): RunSpec {
  const maxModelLen = resolveMaxModelLen(args.maxModelLen, config.maxPositionEmbeddings);
  const kind = used.some(({ isSoftware }) => isSoftware) ? "software" : "hardware";
  const numMicroBatches = args.enableDualBatchOverlap ? 2 : 1;
  const batched = args.maxNumBatchedTokens ?? DEFAULT_BATCHED_TOKENS[kind];
  return {
    tpSize: args.tpSize,
    ppSize: args.ppSize,
    kvCacheDType: args.kvCacheDType === "auto" ? "f16" : args.kvCacheDType,
    maxModelLen,
    maxNumSeqs: args.maxNumSeqs,
    maxNumBatchedTokens: Math.max(
      args.maxNumSeqs,
      Math.min(batched, maxModelLen * args.maxNumSeqs),
    ),
    blockSize: BLOCK_SIZE,
    maxInFlight: Math.max(STEPS_IN_FLIGHT.short, args.ppSize) * numMicroBatches,
    maxLongInFlight: Math.max(STEPS_IN_FLIGHT.long, args.ppSize) * numMicroBatches,
    burstSteps: args.tpSize * args.ppSize === 1 ? args.numSchedulerSteps : 1,
    numMicroBatches,
    minSplitDecodes: args.dboDecodeTokenThreshold,
    simulatedLink: args.simulatedLink,
    ...resolveMemory(args, used),
    collectiveTimeoutMs: args.collectiveTimeoutMs,
    collectives: args.collectives,
  };
}

/** Ranks on one adapter: of this copy of the model, and of all. */
function rankCounts(
  deviceIndex: number,
  devices: readonly number[],
  others: OtherCopies | null,
): Pick<RankSpec, "numRanksOnDevice" | "numRanksToCome"> {
  const count = (list: readonly number[] = []): number =>
    list.filter((other) => other === deviceIndex).length;
  const numRanksToCome = count(others?.toCome);
  return {
    numRanksOnDevice: count(devices) + count(others?.loaded) + numRanksToCome,
    numRanksToCome,
  };
}

function resolveMemory(
  { gpuMemoryUtilization, kvCacheMemoryMiB }: EngineArgs,
  used: readonly AdapterInfo[],
): Pick<RunSpec, "gpuMemoryUtilization" | "kvCacheMemoryMiB"> {
  const software = used.find(({ isSoftware }) => isSoftware);
  if (gpuMemoryUtilization !== null && kvCacheMemoryMiB === null && software !== undefined) {
    throw new UsageError({
      what: "--gpu-memory-utilization",
      expected: "hardware devices, whose memory can be measured",
      got: `${software.name}, whose memory is the host's`,
      remedy: "use --kv-cache-memory-mib",
    });
  }
  return { gpuMemoryUtilization, kvCacheMemoryMiB };
}

/** Throws where there is nothing to overlap, or nothing to overlap it with. */
function checkOverlap({ enableDualBatchOverlap, tpSize, maxNumSeqs }: EngineArgs): void {
  if (!enableDualBatchOverlap) return;
  const what = "--enable-dual-batch-overlap";
  if (tpSize === 1) {
    throw new UsageError({
      what,
      expected: "--tensor-parallel-size of 2 or more, whose all-reduces it hides",
      got: tpSize,
      remedy: "leave it out: one rank a layer has none",
    });
  }
  if (maxNumSeqs === 1) {
    throw new UsageError({
      what,
      expected: "--max-num-seqs of 2 or more, one for each micro-batch",
      got: maxNumSeqs,
      remedy: "raise --max-num-seqs or leave it out",
    });
  }
}

function resolveMaxModelLen(wanted: number | null, trained: number): number {
  if (wanted === null) return Math.min(trained, DEFAULT_MAX_MODEL_LEN);
  if (wanted <= trained) return wanted;
  throw new UsageError({
    what: "--max-model-len",
    expected: `at most ${trained}, the model's max_position_embeddings`,
    got: wanted,
  });
}

function rankLayout(
  { rank, deviceIndex, numRanksOnDevice, run }: RankSpec,
  config: ModelConfig,
  dtype: WeightDType,
  adapter: AdapterInfo,
): RankLayout {
  const { tpSize, ppSize } = run;
  const { tpRank, ppRank } = shardRank(rank, run);
  const plan = shardPlan(config, { tpSize, ppSize }, { tpRank, ppRank });
  return {
    rank,
    tpRank,
    ppRank,
    deviceIndex,
    deviceName: adapter.name,
    isVirtual: numRanksOnDevice > 1,
    layers: plan.layers,
    ...headShard(config, tpSize, tpRank),
    vocab: ppRank === ppSize - 1 ? vocabShard(config, tpSize, tpRank) : undefined,
    weightBytes: planBytes(plan, dtype),
  };
}
