/** What a thread of ranks is asked to do, and what it tells while it does. Plain data. */
import type { SharedMemoryDescriptor } from "../../collectives/transport/sharedMemory.ts";
import type { AdapterInfo } from "../../device/device.ts";
import type { BenchCase, BenchTransport, CollectiveRow } from "./benchPlan.ts";
import type { Breakdown } from "./breakdown.ts";
import type { PairOptions, PairReport } from "./pairs.ts";
import type { WorldPlan } from "./rankBench.ts";

/** One rank of a world and where its tensors live. */
export interface Seat {
  readonly rank: number;
  /** Position in the device list; null for a rank on typed arrays. */
  readonly deviceIndex: number | null;
}

export type RankJob =
  | { readonly kind: "bench"; readonly plan: WorldPlan }
  | { readonly kind: "breakdown"; readonly sizeBytes: number; readonly budgetMs: number }
  | { readonly kind: "pairs"; readonly options: PairOptions };

/** Given to a thread as it starts. */
export interface ThreadTask {
  readonly seats: readonly Seat[];
  readonly worldSize: number;
  readonly transport: BenchTransport;
  readonly descriptor: SharedMemoryDescriptor;
  readonly job: RankJob;
}

/** From a thread to the main one. */
export type ThreadMessage =
  | { readonly kind: "port"; readonly rank: number; readonly port: number }
  | { readonly kind: "devices"; readonly devices: readonly UsedDevice[] }
  | { readonly kind: "row"; readonly row: CollectiveRow }
  | { readonly kind: "note"; readonly note: string }
  | { readonly kind: "skip"; readonly skipped: BenchCase; readonly reason: string }
  | { readonly kind: "breakdown"; readonly breakdown: Breakdown }
  | { readonly kind: "pairs"; readonly report: PairReport }
  | { readonly kind: "failed"; readonly name: string; readonly message: string };

export interface UsedDevice extends Seat {
  readonly name: AdapterInfo["name"];
}
