/** What a user chooses about a model, its layout and its devices; flags map to these one to one. */
import type { WeightDType } from "../common/dtype.ts";
import type { LinkProperties } from "../collectives/transport/simulatedLink.ts";
import type { TraceSink } from "../common/trace.ts";
import type { KvCacheDType } from "../../models/layers/context.ts";
import { type CollectiveArgs, DEFAULT_COLLECTIVE_ARGS } from "./collectiveArgs.ts";
import type { AutotuneMode } from "./autotune/autotuneMode.ts";
import type { KvPlan } from "./kvBudget.ts";
import type { LoadFormat } from "./rankSpec.ts";
import type { SchedulerOptions } from "./schedulerLimits.ts";

export type ExecutorKind = "inProcess" | "workerThreads";

export interface EngineArgs {
  /** A Hugging Face model directory, or the name of a built-in shape (with loadFormat `dummy`). */
  readonly model: string;
  readonly loadFormat: LoadFormat;
  readonly dtype: WeightDType | "auto";
  /** `auto` is f16. */
  readonly kvCacheDType: KvCacheDType | "auto";
  readonly tpSize: number;
  readonly ppSize: number;
  /** Positions in the device list, dealt to world ranks in order, cyclically; null for all of the best kind. */
  readonly devices: readonly number[] | null;
  readonly executor: ExecutorKind;
  /** null: the model's own, at most 8,192. */
  readonly maxModelLen: number | null;
  readonly maxNumSeqs: number;
  /** null: 512 on software adapters, 2,048 on hardware. */
  readonly maxNumBatchedTokens: number | null;
  /** Part of each adapter's memory to use, 0 to 1; null takes what maxNumSeqs sequences at full length need. */
  readonly gpuMemoryUtilization: number | null;
  /** KV cache of each rank in MiB; null leaves it to what is free. */
  readonly kvCacheMemoryMiB: number | null;
  /** Devices of ranks of other copies of the model that this process holds or will hold; null for none. */
  readonly otherCopies: OtherCopies | null;
  readonly scheduler: SchedulerOptions;
  /** Decode steps that one rank alone submits together while they are short and nobody waits, 1 (never) to 16. */
  readonly numSchedulerSteps: number;
  readonly collectiveTimeoutMs: number;
  /** Two micro-batches at once: one computes while the other's all-reduce is on the wire. Needs tpSize > 1. */
  readonly enableDualBatchOverlap: boolean;
  /** Fewer decodes than this stay in one micro-batch: half of them would take as long as all. */
  readonly dboDecodeTokenThreshold: number;
  /** Makes every message between ranks slower or worse, to plan for a network; null leaves them alone. */
  readonly simulatedLink: LinkProperties | null;
  readonly collectives: CollectiveArgs;
  /** Turns off WebGPU's bounds checks on hardware adapters (docs/adr/0009-no-bounds-checks.md); never on software ones. */
  readonly disableRobustness: boolean;
  /** Kernel sizes: each kernel's defaults, those measured earlier, or measured now where none were. */
  readonly autotune: AutotuneMode;
  /** Gets what every rank did and when, once the model is shut down; null: nothing is measured. */
  readonly profile: TraceSink | null;
}

/** Copies of the model share the memory of the adapters that they share. */
export interface OtherCopies {
  /** A device for each rank of those that are loaded. */
  readonly loaded: readonly number[];
  /** And of those that will be. */
  readonly toCome: readonly number[];
}

export const DEFAULT_ENGINE_ARGS: Omit<EngineArgs, "model"> = {
  loadFormat: "auto",
  dtype: "auto",
  kvCacheDType: "auto",
  tpSize: 1,
  ppSize: 1,
  devices: null,
  executor: "workerThreads",
  maxModelLen: null,
  maxNumSeqs: 8,
  maxNumBatchedTokens: null,
  gpuMemoryUtilization: null,
  kvCacheMemoryMiB: null,
  otherCopies: null,
  scheduler: {},
  numSchedulerSteps: 4,
  collectiveTimeoutMs: 30_000,
  enableDualBatchOverlap: false,
  dboDecodeTokenThreshold: 2,
  simulatedLink: null,
  collectives: DEFAULT_COLLECTIVE_ARGS,
  disableRobustness: true,
  autotune: "cached",
  profile: null,
};

/** Of EngineArgs.numSchedulerSteps: each step of a burst is recorded by itself. */
export const MAX_SCHEDULER_STEPS = 16;

/** What each rank will do, known before any weight is read. */
export interface LayoutReport {
  readonly tpSize: number;
  readonly ppSize: number;
  readonly executor: ExecutorKind;
  readonly model: string;
  readonly dtype: WeightDType;
  readonly kvCacheDType: KvCacheDType;
  readonly maxModelLen: number;
  readonly ranks: readonly RankLayout[];
}

export interface RankLayout {
  readonly rank: number;
  readonly tpRank: number;
  readonly ppRank: number;
  readonly deviceIndex: number;
  readonly deviceName: string;
  /** Another rank has the same adapter: both are virtual devices. */
  readonly isVirtual: boolean;
  /** begin to end, end not included. */
  readonly layers: { readonly begin: number; readonly end: number };
  readonly heads: { readonly begin: number; readonly end: number };
  readonly kvHeads: { readonly begin: number; readonly end: number };
  /** Vocabulary rows of lm_head; undefined except on the last stage. */
  readonly vocab: { readonly begin: number; readonly end: number } | undefined;
  readonly weightBytes: number;
}

/** Progress of one rank; `done` and `total` are bytes for weights, pipelines for pipelines. */
export interface LoadProgressEvent {
  readonly rank: number;
  readonly phase: "weights" | "pipelines";
  readonly done: number;
  readonly total: number;
}

/** Told while a model loads. */
export interface LoadEvents {
  /** Once, before any weight is read. */
  readonly onLayout?: (layout: LayoutReport) => void;
  /** Often, from every rank. */
  readonly onProgress?: (event: LoadProgressEvent) => void;
  /** Once, when every rank has its weights and its KV cache. */
  readonly onReady?: (kvPlan: KvPlan) => void;
}
