/** What a rank is told when it starts: plain data that survives a trip to another thread. */
import type { ModelConfig } from "../../models/config.ts";
import type { LinkProperties } from "../collectives/transport/simulatedLink.ts";
import type { KvCacheDType } from "../../models/layers/context.ts";
import { headShard } from "../../models/sharding.ts";
import { sizeOf } from "../../models/weights/weightSource.ts";
import type { WeightDType } from "../common/dtype.ts";
import type { TunedNumbers } from "../device/adapterInfo.ts";
import type { AttentionHeads } from "../kernels/attention.ts";
import type { CollectiveArgs } from "./collectiveArgs.ts";

/** Where weights come from. */
export type LoadFormat = "auto" | "dummy";

/** The model, the same for every rank. */
export interface ModelSpec {
  /** The model directory; null for a built-in shape, whose weights are dummies. */
  readonly dir: string | null;
  readonly config: ModelConfig;
  readonly loadFormat: LoadFormat;
  /** `auto` keeps the checkpoint's. */
  readonly dtype: WeightDType | "auto";
}

/** How the model is cut and how much runs at once, the same for every rank. */
export interface RunSpec {
  readonly tpSize: number;
  readonly ppSize: number;
  readonly kvCacheDType: KvCacheDType;
  /** Prompt and completion together, in tokens. */
  readonly maxModelLen: number;
  readonly maxNumSeqs: number;
  /** Tokens of one step at most. */
  readonly maxNumBatchedTokens: number;
  /** Tokens of one KV block. */
  readonly blockSize: number;
  readonly maxInFlight: number;
  readonly maxLongInFlight: number;
  /** Decode steps that are submitted together while they are short; 1: each by itself. */
  readonly burstSteps: number;
  /** Plans that a rank runs at once: 2 with dual-batch overlap, else 1. */
  readonly numMicroBatches: number;
  /** Fewer decodes than this stay in one plan. */
  readonly minSplitDecodes: number;
  /** Makes every message between ranks slower or worse, for planning and tests; null leaves them alone. */
  readonly simulatedLink: LinkProperties | null;
  /** Part of an adapter's memory that may be used; null takes what the longest batch needs. */
  readonly gpuMemoryUtilization: number | null;
  /** KV cache of each rank; null leaves it to what is free. */
  readonly kvCacheMemoryMiB: number | null;
  /** Deadline of one collective. */
  readonly collectiveTimeoutMs: number;
  readonly collectives: CollectiveArgs;
}

/** One rank. World rank = ppRank * tpSize + tpRank. */
export interface RankSpec {
  readonly rank: number;
  /** Position in the opener's list; several ranks may share one adapter as virtual devices. */
  readonly deviceIndex: number;
  /** Ranks of this process on the same adapter, this one and those of other copies of the model included. */
  readonly numRanksOnDevice: number;
  /** Of these, ranks of copies that are loaded after this one. */
  readonly numRanksToCome: number;
  readonly disableRobustness: boolean;
  /** What autotuning found on this rank's device. */
  readonly tuned?: TunedNumbers | undefined;
  /** Keeps spans of all that it does, for `--profile`. */
  readonly isTraced?: boolean;
  readonly model: ModelSpec;
  readonly run: RunSpec;
}

/** What a rank reports once its weights are loaded. */
export interface RankReport {
  readonly rank: number;
  readonly deviceName: string;
  readonly deviceIndex: number;
  readonly isSoftware: boolean;
  /** Linear layers of several tokens multiply f16, on tensor cores, whatever the weights' dtype. */
  readonly multipliesHalves: boolean;
  /** As in RankSpec. */
  readonly numRanksOnDevice: number;
  readonly numRanksToCome: number;
  readonly weightBytes: number;
  /** Estimate of all that it will allocate but weights and KV cache. */
  readonly activationBytes: number;
  /** Host time for opening the device, and for reading and uploading the weights. */
  readonly deviceMs: number;
  readonly weightsMs: number;
  /** Bytes that one KV block takes over all layers of this rank. */
  readonly kvBlockBytes: number;
  /** Blocks that one binding of a layer's keys can hold. */
  readonly maxBindingBlocks: number;
}

/** The rank that samples: the first of the last stage. */
export function samplingRank({ tpSize, ppSize }: Pick<RunSpec, "tpSize" | "ppSize">): number {
  return (ppSize - 1) * tpSize;
}

/** A rank's place in the layout. */
export function shardRank(rank: number, { tpSize }: RunSpec): { tpRank: number; ppRank: number } {
  return { tpRank: rank % tpSize, ppRank: Math.floor(rank / tpSize) };
}

/** The heads that a rank's attention has. */
export function headsOf({ rank, model, run }: RankSpec): AttentionHeads {
  const { heads, kvHeads } = headShard(model.config, run.tpSize, shardRank(rank, run).tpRank);
  const { headDim } = model.config;
  return { numHeads: sizeOf(heads), numKvHeads: sizeOf(kvHeads), headDim };
}
