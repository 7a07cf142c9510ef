/** What a rank is told when it starts: plain data that survives a trip to another thread. */
import type { ModelConfig } from "../../models/config.ts";
import type { KvCacheDType } from "../../models/layers/context.ts";
import type { WeightDType } from "../common/dtype.ts";

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
  /** Deadline of one collective. */
  readonly collectiveTimeoutMs: number;
}

/** One rank. World rank = ppRank * tpSize + tpRank. */
export interface RankSpec {
  readonly rank: number;
  /** Position in the opener's list; several ranks may share one adapter as virtual devices. */
  readonly deviceIndex: number;
  /** Ranks of this world on the same adapter, this one included. */
  readonly numRanksOnDevice: number;
  readonly disableRobustness: boolean;
  readonly model: ModelSpec;
  readonly run: RunSpec;
}

/** What a rank reports once its weights are loaded. */
export interface RankReport {
  readonly rank: number;
  readonly deviceName: string;
  readonly weightBytes: number;
  /** Bytes that one KV block takes over all layers of this rank. */
  readonly kvBlockBytes: number;
  /** Blocks that fit this rank's budget. */
  readonly maxKvBlocks: number;
}

/** The rank that samples: the first of the last stage. */
export function samplingRank({ tpSize, ppSize }: Pick<RunSpec, "tpSize" | "ppSize">): number {
  return (ppSize - 1) * tpSize;
}

/** A rank's place in the layout. */
export function shardRank(rank: number, { tpSize }: RunSpec): { tpRank: number; ppRank: number } {
  return { tpRank: rank % tpSize, ppRank: Math.floor(rank / tpSize) };
}
