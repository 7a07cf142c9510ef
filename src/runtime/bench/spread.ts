/** A figure over repeats, as fields of a report. */
import { median, quantile } from "../../common/math.ts";
import type { Fields } from "./report.ts";

/** `name` (the median), `name_min` and `name_max`. */
export function spread(name: string, values: readonly number[]): Fields {
  return {
    [name]: median(values),
    [`${name}_min`]: quantile(values, 0),
    [`${name}_max`]: quantile(values, 1),
  };
}

const PERCENTILES = [10, 25, 50, 75, 90, 99] as const;

/** `name_mean` and `name_p10` to `name_p99`. */
export function percentiles(name: string, values: readonly number[]): Fields {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const entries = PERCENTILES.map((p) => [`${name}_p${p}`, quantile(values, p / 100)] as const);
  return { [`${name}_mean`]: mean, ...Object.fromEntries(entries) };
}
