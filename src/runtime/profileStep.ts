/** GPU time of a step, by kernel. */
import { median } from "../common/math.ts";
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

const NUM_WHOLE_STEPS = 5;

/**
 * Milliseconds of the GPU for a step on rank 0, its launches in a row: the median of five steps. Null where
 * the adapter has no timestamps, or the step waits for other ranks. For use while no request runs.
 */
export async function timeStep(
  executor: RankedExecutor,
  step: ProfiledStep,
): Promise<number | null> {
  const times: number[] = [];
  for (let i = 0; i <= NUM_WHOLE_STEPS; i++) {
    const [whole] = await executor.profileStep({ ...step, isWhole: true });
    if (whole === undefined) return null;
    if (i > 0) times.push(whole.timeUs / 1000);
  }
  return median(times);
}

/** One step on rank 0, after one to warm up; for use while no request runs. */
export async function profileStep(
  executor: RankedExecutor,
  step: ProfiledStep,
): Promise<KernelTime[]> {
  await executor.profileStep(step); // clocks ramp up
  return byKernel(await executor.profileStep(step));
}
