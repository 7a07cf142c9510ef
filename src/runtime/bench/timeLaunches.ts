/** GPU time of launches that follow each other, without the host's. */
import type { CommandList } from "../../device/commandList.ts";
import type { Device } from "../../device/device.ts";
import { type LiveCounts, liveRows } from "../../device/liveCounts.ts";
import type { Recorder } from "../../device/recorder.ts";
import { SpanTimer } from "../../device/spanTimer.ts";

export interface TimingOptions {
  readonly live?: LiveCounts;
  readonly numRepeats?: number;
  /** On hardware, launches run for this long first. */
  readonly warmUpMs?: number;
}

export interface LaunchTimes {
  /** Launches of one repeat. */
  readonly numLaunches: number;
  /** Microseconds a launch, a figure a repeat: by GPU timestamps, or by the host's clock where there are none. */
  readonly launchUs: readonly number[];
  /** Microseconds of the host's to encode and submit a launch, at best. */
  readonly encodeUs: number;
}

const NUM_REPEATS = 5;
/** An idle H200 runs at 345 of 1,980 MHz, and stays there for some tens of milliseconds of work. */
const CLOCK_RAMP_MS = 80;

/** Times what `record` launches, each launch waiting for the one before where it uses what that wrote. */
export async function timeLaunches(
  device: Device,
  record: (rec: Recorder) => void,
  options: TimingOptions = {},
): Promise<LaunchTimes> {
  const { live = liveRows(1), numRepeats = NUM_REPEATS, warmUpMs = CLOCK_RAMP_MS } = options;
  const list = await device.finish(device.record(record));
  try {
    const { numLaunches, encodeUs } = await warmUp(device, list, live, warmUpMs);
    const spans = await timeRepeats(device, list, live, numRepeats);
    return { numLaunches, launchUs: spans.map((us) => us / numLaunches), encodeUs };
  } finally {
    list.destroy();
  }
}

interface WarmUp {
  readonly numLaunches: number;
  readonly encodeUs: number;
}

/** Once on software adapters; on hardware until the clocks are up. All launches are in one pass, as in a step. */
async function warmUp(
  device: Device,
  list: CommandList,
  live: LiveCounts,
  warmUpMs: number,
): Promise<WarmUp> {
  const begin = performance.now();
  let encodeUs = Infinity;
  for (;;) {
    const before = { ...list.times };
    await list.replay(live);
    const { encodeMs, submitMs, numLaunches } = list.times;
    await device.idle();
    const launches = numLaunches - before.numLaunches;
    const spentMs = encodeMs - before.encodeMs + submitMs - before.submitMs;
    encodeUs = Math.min(encodeUs, (1000 * spentMs) / launches);
    const isWarm = device.info.isSoftware || performance.now() - begin >= warmUpMs;
    if (isWarm) return { numLaunches: launches, encodeUs };
  }
}

/** Microseconds of all launches, a figure a repeat. */
async function timeRepeats(
  device: Device,
  list: CommandList,
  live: LiveCounts,
  numRepeats: number,
): Promise<number[]> {
  const timer = device.info.hasTimestamps ? new SpanTimer(device) : undefined;
  const spans: number[] = [];
  try {
    for (let i = 0; i < numRepeats; i++) {
      const encoded = list.times.encodeMs;
      const begin = performance.now();
      await list.replay(live, timer);
      await device.idle();
      const hostMs = performance.now() - begin - (list.times.encodeMs - encoded);
      spans.push(timer === undefined ? 1000 * hostMs : await timer.readUs());
    }
  } finally {
    timer?.destroy();
  }
  return spans;
}
