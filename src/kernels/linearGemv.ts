/** What every launch of shaders/linear_gemv.wgsl has in common, by itself or fused with its neighbours. */
import type { WeightDType } from "../common/dtype.ts";
import { ceilDiv } from "../common/math.ts";
import type { AdapterInfo } from "../device/device.ts";
import type { WorkgroupCount } from "../device/launch.ts";
import { spread } from "./kernel.ts";
import {
  type GemvVariant,
  laneGroupsOf,
  needsSubgroups,
  ROWS_PER_LANE_GROUP,
} from "./linearVariant.ts";

/** Files of a lane group's four outputs, or two with swiglu. */
export const PLAIN_ROWS = [
  "lib/rows_plain.wgsl",
  "lib/linear_store.wgsl",
  "lib/silu.wgsl",
] as const;

/** The files of a variant; a caller adds those that bind, that read x and that take a group's sums. */
export function gemvSources(variant: GemvVariant, dtype: WeightDType): readonly string[] {
  const shared = [
    "lib/live.wgsl",
    "lib/linear_common.wgsl",
    `lib/weights_${dtype}.wgsl`,
    needsSubgroups(variant) ? "lib/place_subgroup.wgsl" : "lib/place.wgsl",
    `lib/x_${variant.activations}.wgsl`,
    `lib/tokens_${variant.tokens}.wgsl`,
  ];
  if (variant.maxWorkgroups !== undefined) return [...shared, "linear_gemv_held.wgsl"];
  return [...shared, `lib/row_sum_${variant.rowSum}.wgsl`, "linear_gemv.wgsl"];
}

/** The overrides of shaders/linear_gemv.wgsl, or linear_gemv_held.wgsl. */
export function gemvOverrides(variant: GemvVariant): Readonly<Record<string, number>> {
  const { workgroupSize, maxWorkgroups, streams = 1 } = variant;
  return { WG_SIZE: workgroupSize, ...(maxWorkgroups === undefined ? { STREAMS: streams } : {}) };
}

/** Workgroups for a number of live rows. */
export type Reach = (numLive: number) => WorkgroupCount;

/** `numRows` rows of the weight, four a lane group. */
export function reachOfGemv(numRows: number, variant: GemvVariant, adapter: AdapterInfo): Reach {
  const rowsPerWorkgroup = laneGroupsOf(variant) * ROWS_PER_LANE_GROUP;
  const all = ceilDiv(numRows, rowsPerWorkgroup);
  const [x, y] = spread(Math.min(all, variant.maxWorkgroups ?? all), adapter);
  return (numLive) => [x, y, ceilDiv(numLive, variant.tokens)];
}
