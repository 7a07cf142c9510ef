/** Choices that autotuning may replace: how they are named in `AdapterInfo.tuned`, and which it may take. */
import type { AdapterInfo, TunedNumbers } from "../device/adapterInfo.ts";

/** What a variant choice reads of an adapter to know what was measured on it. */
export type TunedAdapter = Partial<Pick<AdapterInfo, "tuned">>;

/** A field of an entry, if it is one of the numbers that the choice could have made. */
export function tunedNumber(
  tuned: TunedNumbers | undefined,
  entry: string,
  field: string,
  allowed: readonly number[],
): number | undefined {
  const value = tuned?.[entry]?.[field];
  return value !== undefined && allowed.includes(value) ? value : undefined;
}
