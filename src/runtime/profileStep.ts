/** GPU time of a step, by kernel. */
import type { LaunchTime } from "../device/timestamps.ts";
import type { ProfiledStep } from "./executor/rankHandle.ts";
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

/** One step on rank 0, after one to warm up; for use while no request runs. */
export async function profileStep(
  executor: RankedExecutor,
  step: ProfiledStep,
): Promise<KernelTime[]> {
  await executor.profileStep(step); // clocks ramp up
  return byKernel(await executor.profileStep(step));
}
