import fc from "fast-check";
import { expect, test } from "vitest";
import { HostCommunicator } from "../../src/collectives/hostCommunicator.ts";
import { GROUP_KINDS, ParallelGrid } from "../../src/collectives/parallelGrid.ts";
import { initializeModelParallel } from "../../src/collectives/parallelState.ts";
import { LoopbackHub } from "../../src/collectives/transport/loopback.ts";
import { ranksOf } from "./support/worlds.ts";

const size = fc.integer({ min: 1, max: 3 });

test("coordinates and ranks are inverse, tp innermost, then pcp, pp, dp", () => {
  const grid = new ParallelGrid(24, { dp: 2, pp: 3, pcp: 2, tp: 2 });
  for (const rank of ranksOf(24)) expect(grid.rankAt(grid.coordinates(rank))).toBe(rank);
  expect(grid.coordinates(1)).toEqual({ dp: 0, pp: 0, pcp: 0, tp: 1 });
  expect(grid.coordinates(2)).toEqual({ dp: 0, pp: 0, pcp: 1, tp: 0 });
  expect(grid.coordinates(4)).toEqual({ dp: 0, pp: 1, pcp: 0, tp: 0 });
  expect(grid.coordinates(12)).toEqual({ dp: 1, pp: 0, pcp: 0, tp: 0 });
});

test("pp 2 x tp 2: the groups by hand", () => {
  const grid = new ParallelGrid(4, { pp: 2, tp: 2 });
  expect(grid.groups("tp")).toEqual([
    [0, 1],
    [2, 3],
  ]);
  expect(grid.groups("pp")).toEqual([
    [0, 2],
    [1, 3],
  ]);
  expect(grid.groups("world")).toEqual([[0, 1, 2, 3]]);
  expect(grid.groups("dp")).toEqual([[0], [1], [2], [3]]);
});

test("dp 2 x tp 4, dcp 2: ep spans dp x tp, dcp cuts tp", () => {
  const grid = new ParallelGrid(8, { dp: 2, tp: 4, dcp: 2 });
  expect(grid.groups("ep")).toEqual([[0, 1, 2, 3, 4, 5, 6, 7]]);
  expect(grid.groups("dcp")).toEqual([
    [0, 1],
    [2, 3],
    [4, 5],
    [6, 7],
  ]);
  expect(grid.groups("dp")).toEqual([
    [0, 4],
    [1, 5],
    [2, 6],
    [3, 7],
  ]);
});

test("every kind of group has each rank in exactly one group", () => {
  fc.assert(
    fc.property(size, size, size, size, (dp, pp, pcp, tp) => {
      const grid = new ParallelGrid(dp * pp * pcp * tp, { dp, pp, pcp, tp });
      for (const kind of GROUP_KINDS) {
        const groups = grid.groups(kind);
        expect(groups.flat().toSorted((a, b) => a - b)).toEqual(ranksOf(grid.worldSize));
        for (const group of groups) {
          for (const rank of group) expect(grid.groupOf(kind, rank)).toEqual(group);
        }
      }
    }),
    { numRuns: 50 },
  );
});

test("wrong sizes say the product and what was expected", () => {
  expect(() => new ParallelGrid(6, { pp: 2, tp: 2 })).toThrow(
    "parallel sizes: expected a product of 6, the number of ranks, got dp 1 x pp 2 x pcp 1 x tp 2 = 4",
  );
  expect(() => new ParallelGrid(4, { tp: 4, dcp: 3 })).toThrow(
    "dcp: expected a divisor of tp 4, got 3",
  );
  expect(() => new ParallelGrid(0, { tp: 0 })).toThrow("tp: expected a whole number");
});

test("groups of one rank work side by side and count on their own", async () => {
  const hub = new LoopbackHub(4);
  const sums = await Promise.all(
    ranksOf(4).map(async (rank) => {
      const state = initializeModelParallel(hub.transport(rank), { pp: 2, tp: 2 });
      const [tp, pp] = [state.getTpGroup(), state.getPpGroup()];
      expect([tp.rankInGroup, pp.rankInGroup]).toEqual([rank % 2, Math.floor(rank / 2)]);
      expect(state.getTpGroup()).toBe(tp);
      const one = (): Float32Array => Float32Array.of(10 ** rank);
      const both = await Promise.all([
        new HostCommunicator(tp).allReduce(one()),
        new HostCommunicator(pp).allReduce(one()),
      ]);
      const world = await new HostCommunicator(state.getWorldGroup()).allReduce(one());
      state.destroyModelParallel();
      expect(() => state.getTpGroup()).toThrow("destroyed");
      return [...both, world].map((sum) => sum[0]);
    }),
  );
  expect(sums).toEqual([
    [11, 101, 1111],
    [11, 1010, 1111],
    [1100, 101, 1111],
    [1100, 1010, 1111],
  ]);
});
