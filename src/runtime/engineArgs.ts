/** What a user chooses about a model, its layout and its devices; flags map to these one to one. */
import type { WeightDType } from "../common/dtype.ts";
import type { KvCacheDType } from "../../models/layers/context.ts";
import type { LoadFormat, RankReport } from "./rankSpec.ts";

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
  readonly collectiveTimeoutMs: number;
  /** Turns off WebGPU's bounds checks on hardware adapters. */
  readonly disableRobustness: boolean;
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
  collectiveTimeoutMs: 30_000,
  disableRobustness: false,
};

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
  readonly onReady?: (ranks: readonly RankReport[], numKvBlocks: number) => void;
}
