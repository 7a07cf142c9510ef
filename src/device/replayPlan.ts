/**
 * What a replay runs: the launches that its counts leave, segment by segment. Steps of a decode have the same counts
 * one after the other, so they are worked out once and kept. Encoding a launch is three calls into Dawn, 2.1 to
 * 2.4 µs in a bare loop on two cores of an AMD EPYC; asking every recorded launch for its workgroups cost 0.6 more.
 */
import type { BoundLaunch } from "./boundLaunch.ts";
import type { HostOpRun } from "./hostOpRun.ts";
import type { LaunchCounts, LiveCounts } from "./liveCounts.ts";
import { sameLaunchCounts } from "./liveCounts.ts";

/** Launches up to the next host operation; the last segment of a list may have none. */
export interface Segment {
  readonly launches: readonly BoundLaunch[];
  readonly hostOp: HostOpRun | undefined;
}

/** A launch with its workgroups, none of them zero. */
export interface CountedLaunch {
  readonly label: string;
  readonly pipeline: GPUComputePipeline;
  readonly bindGroup: GPUBindGroup;
  readonly x: number;
  readonly y: number;
  readonly z: number;
}

export interface CountedSegment {
  readonly launches: readonly CountedLaunch[];
  readonly hostOp: HostOpRun | undefined;
}

export class ReplayPlan {
  readonly #recorded: readonly Segment[];
  #counts: LaunchCounts | undefined;
  #segments: readonly CountedSegment[] = [];

  constructor(recorded: readonly Segment[]) {
    this.#recorded = recorded;
  }

  /** The segments of a replay with these counts. */
  segments(live: LiveCounts): readonly CountedSegment[] {
    if (this.#counts === undefined || !sameLaunchCounts(this.#counts, live)) {
      this.#segments = segmentsOf(this.#recorded, live).map(({ launches, hostOp }) => ({
        launches: launches.flatMap((bound) => counted(bound, live)),
        hostOp,
      }));
      this.#counts = live;
    }
    return this.#segments;
  }
}

function counted(
  { launch, pipeline, bindGroup }: BoundLaunch,
  live: LaunchCounts,
): CountedLaunch[] {
  const { label, workgroups } = launch;
  const [x, y, z] = typeof workgroups === "function" ? workgroups(live) : workgroups;
  return x > 0 && y > 0 && z > 0 ? [{ label, pipeline, bindGroup, x, y, z }] : [];
}

/** Launches before a host operation that a replay does without join those after. */
function segmentsOf(recorded: readonly Segment[], live: LaunchCounts): readonly Segment[] {
  const isLeftOut = ({ hostOp }: Segment): boolean => hostOp?.isNeeded(live) === false;
  if (!recorded.some(isLeftOut)) return recorded;
  const segments: Segment[] = [];
  let launches: BoundLaunch[] = [];
  for (const segment of recorded) {
    launches = [...launches, ...segment.launches];
    if (isLeftOut(segment)) continue;
    segments.push({ launches, hostOp: segment.hostOp });
    launches = [];
  }
  if (launches.length > 0) segments.push({ launches, hostOp: undefined });
  return segments;
}
