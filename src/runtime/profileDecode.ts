/** GPU time of a decode step, by kernel. */
import type { LaunchTime } from "../device/timestamps.ts";
import type { RankedExecutor } from "./executor/rankedExecutor.ts";

export interface KernelTime {
  readonly kernel: string;
  readonly launches: number;
  readonly timeUs: number;
}

/** Sums launches of one label, the most expensive first. */
export function byKernel(times: readonly LaunchTime[]): KernelTime[] {
  const groups = Map.groupBy(times, ({ label }) => label);
  return [...groups]
    .map(([kernel, launches]) => ({
      kernel,
      launches: launches.length,
      timeUs: launches.reduce((sum, { timeUs }) => sum + timeUs, 0),
    }))
    .sort((a, b) => b.timeUs - a.timeUs);
}

/** One decode step after a prompt of `promptLength`, on rank 0; for use while no request runs. */
export async function profileDecode(
  executor: RankedExecutor,
  { promptLength, batchSize }: { readonly promptLength: number; readonly batchSize: number },
): Promise<KernelTime[]> {
  return byKernel(await executor.profileDecode(promptLength, batchSize));
}
