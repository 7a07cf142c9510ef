import { expect, test } from "vitest";
import type { BoundLaunch } from "../../src/device/boundLaunch.ts";
import type { HostOpRun } from "../../src/device/hostOpRun.ts";
import type { Launch } from "../../src/device/launch.ts";
import { type LiveCounts, liveRows } from "../../src/device/liveCounts.ts";
import { type CountedSegment, ReplayPlan, type Segment } from "../../src/device/replayPlan.ts";

/** As much of a launch as a plan looks at. */
function launch(label: string, workgroups: Launch["workgroups"]): BoundLaunch {
  return { launch: { label, workgroups } } as unknown as BoundLaunch;
}

function hostOp(isNeeded: (live: LiveCounts) => boolean): HostOpRun {
  return { isNeeded } as unknown as HostOpRun;
}

function labels(segments: readonly CountedSegment[]): string[][] {
  return segments.map(({ launches }) =>
    launches.map(({ label, x, y, z }) => `${label} ${x} ${y} ${z}`),
  );
}

test("launches without workgroups are left out, and operations that a step does without join segments", () => {
  const exchange = hostOp(({ numLogprobRows }) => numLogprobRows > 0);
  const recorded: Segment[] = [
    { launches: [launch("a", [1, 2, 3]), launch("b", [1, 0, 1])], hostOp: exchange },
    {
      launches: [launch("c", ({ numTokens, numWide }) => [numTokens, numWide, 1])],
      hostOp: undefined,
    },
  ];
  const plan = new ReplayPlan(recorded);
  expect(labels(plan.segments(liveRows(5)))).toEqual([["a 1 2 3"]]);
  expect(labels(plan.segments(liveRows(5, { numWide: 2 })))).toEqual([["a 1 2 3", "c 5 2 1"]]);
  const both = plan.segments(liveRows(5, { numWide: 2, numLogprobRows: 1 }));
  expect(labels(both)).toEqual([["a 1 2 3"], ["c 5 2 1"]]);
  expect(both.map((segment) => segment.hostOp)).toEqual([exchange, undefined]);
});

test("steps of the same counts are worked out once, whatever their context; any other count counts", () => {
  let numAsked = 0;
  const recorded = [
    {
      launches: [
        launch("a", ({ numTokens }) => {
          numAsked += 1;
          return [numTokens, 1, 1];
        }),
      ],
      hostOp: undefined,
    },
  ];
  const plan = new ReplayPlan(recorded);
  const base = liveRows(3);
  const first = plan.segments(base);
  expect(plan.segments({ ...base, maxContextLength: 999 })).toBe(first);
  expect(numAsked).toBe(1);
  const fields = Object.keys(base) as (keyof LiveCounts)[];
  for (const field of fields.filter((name) => name !== "maxContextLength")) {
    plan.segments(base);
    numAsked = 0;
    plan.segments({ ...base, [field]: base[field] + 1 });
    expect([field, numAsked > 0]).toEqual([field, true]);
  }
});
