/** Measures what adapters have left once all ranks have their weights, and plans the KV cache within it. */
import { bytesToProbe, type KvPlan, planKvCache } from "../kvBudget.ts";
import type { RankReport, RunSpec } from "../rankSpec.ts";
import type { RankHandle } from "./rankHandle.ts";

/** One adapter after the other, by the first rank on it: probes side by side would take from each other. */
export async function sizeKvCache(
  ranks: readonly RankHandle[],
  run: RunSpec,
  reports: readonly RankReport[],
): Promise<KvPlan> {
  const free = new Map<number, number>();
  for (const [deviceIndex, onDevice] of Map.groupBy(reports, (report) => report.deviceIndex)) {
    const maxBytes = bytesToProbe(run, onDevice);
    const prober = ranks.find(({ rank }) => rank === onDevice[0]?.rank);
    if (maxBytes <= 0 || prober === undefined) continue;
    free.set(deviceIndex, await prober.probeFreeBytes(maxBytes));
  }
  return planKvCache(run, reports, free);
}
