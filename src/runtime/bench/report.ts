/** What every benchmark gives: its setting, the adapter's ceilings, and rows of figures. */
import type { AdapterInfo } from "../../device/device.ts";
import type { EngineArgs, LayoutReport } from "../engineArgs.ts";
import type { KernelTime } from "../profileStep.ts";
import type { Ceilings } from "./ceilings.ts";

export type Cell = string | number | null;

/** Names in snake_case with their units, as the JSON has them. */
export type Fields = Readonly<Record<string, Cell>>;

/** A figure of `rows` that people see: its key and its heading. */
export interface ReportColumn {
  readonly key: string;
  readonly title: string;
}

/** A benchmark: what ran on what, and a row a workload. */
export interface BenchReport {
  readonly benchmark: string;
  readonly model: string;
  /** Of the whole run: device, driver, versions, layout, dtypes, flags. */
  readonly settings: Fields;
  /** Of rank 0's adapter, measured in this run. */
  readonly ceilings: Ceilings;
  /** The columns of the table, in order; rows may hold more. */
  readonly columns: readonly ReportColumn[];
  /** A row a workload. */
  readonly rows: readonly Fields[];
  /** GPU time of a step by kernel, a list a row; none where the benchmark times no steps. */
  readonly kernels: readonly (readonly KernelTime[])[];
  readonly layout: LayoutReport | null;
}

/** What the platform tells: openNode's versions, or a page's. */
export interface Versions {
  /** Dawn's npm package, or the browser. */
  readonly dawn: string;
  readonly node: string;
}

/** What a report names of rank 0's adapter. */
export type MeasuredAdapter = Pick<AdapterInfo, "description" | "isSoftware">;

/** Whether WebGPU checks bounds in such a run: on software adapters always. */
export function robustnessOf(
  { disableRobustness }: Pick<EngineArgs, "disableRobustness">,
  adapter: Pick<AdapterInfo, "isSoftware"> | undefined,
): "on" | "off" {
  return disableRobustness && adapter?.isSoftware === false ? "off" : "on";
}

/** The setting of a run on a layout. */
export function layoutSettings(
  args: EngineArgs,
  layout: LayoutReport,
  adapter: MeasuredAdapter | undefined,
  versions: Versions,
): Fields {
  const names = new Set(layout.ranks.map(({ deviceName }) => deviceName));
  return {
    device: [...names].join(" + "),
    driver: adapter?.description ?? "",
    dawn: versions.dawn,
    node: versions.node,
    tp: layout.tpSize,
    pp: layout.ppSize,
    num_devices: numDevices(layout),
    executor: layout.executor,
    dtype: layout.dtype,
    kv_cache_dtype: layout.kvCacheDType,
    load_format: args.loadFormat,
    max_model_len: layout.maxModelLen,
    robustness: robustnessOf(args, adapter),
    autotune: args.autotune,
  };
}

/** Adapters in use; virtual devices share one. */
export function numDevices({ ranks }: LayoutReport): number {
  return new Set(ranks.map(({ deviceIndex }) => deviceIndex)).size;
}
