import { describe, expect, test } from "vitest";
import type { GroupCoordinator } from "../../src/collectives/groupCoordinator.ts";
import {
  initDistributedEnvironment,
  initializeModelParallel,
  type ParallelState,
} from "../../src/collectives/parallelState.ts";
import { LoopbackHub } from "../../src/collectives/transport/loopback.ts";
import { ranksOf } from "./support/worlds.ts";

/** Runs the same code on every rank of a new world, then leaves it. */
async function onEveryState<T>(
  worldSize: number,
  body: (state: ParallelState) => Promise<T>,
  hosts?: number[],
): Promise<T[]> {
  const hub = new LoopbackHub(worldSize, hosts === undefined ? {} : { hosts });
  return Promise.all(
    ranksOf(worldSize).map(async (rank) => {
      const state = initDistributedEnvironment(hub.transport(rank), { timeoutMs: 2000 });
      const result = await body(state);
      state.destroyDistributedEnvironment();
      return result;
    }),
  );
}

test("a coordinator knows who is in its group and who is next to it, as in vLLM's table", async () => {
  const seen = await onEveryState(
    8,
    (state) => {
      state.initializeModelParallel({ pp: 2, tp: 4 });
      const describeGroup = (group: GroupCoordinator): unknown => [
        group.ranks,
        group.rankInGroup,
        group.firstRank,
        group.lastRank,
        group.nextRank,
        group.prevRank,
        group.isFirstRank,
        group.isLastRank,
      ];
      const { localRank, rank } = state.getWorldGroup();
      const groups = [state.getTpGroup(), state.getPpGroup()].map(describeGroup);
      expect(state.getTpGroup()).toBe(state.getTpGroup());
      expect([state.tensorModelParallelWorldSize, state.tensorModelParallelRank]).toEqual([
        4,
        rank % 4,
      ]);
      return Promise.resolve([rank, localRank, ...groups]);
    },
    [0, 0, 0, 0, 1, 1, 1, 1],
  );
  expect(seen[6]).toEqual([
    6,
    2,
    [[4, 5, 6, 7], 2, 4, 7, 7, 5, false, false],
    [[2, 6], 1, 2, 6, 2, 2, false, true],
  ]);
});

test("objects and tensor dicts travel by group", async () => {
  const results = await onEveryState(4, async (state) => {
    state.initializeModelParallel({ pp: 2, tp: 2 });
    const [tp, pp] = [state.getTpGroup(), state.getPpGroup()];
    const plan = await state.getWorldGroup().broadcastObject({ step: 3, ids: [1, 2] });
    const reports = await state.getWorldGroup().gatherObject({ rank: state.rank }, 2);
    const all = await tp.allGatherObject(state.rank);
    const dict = { x: { shape: [2], data: Float32Array.of(state.rank, 1) }, layer: 4 };
    if (pp.isFirstRank) await pp.sendTensorDict(dict);
    const received = pp.isFirstRank ? undefined : await pp.recvTensorDict();
    const shared = await tp.broadcastTensorDict(tp.isFirstRank ? dict : undefined);
    if (tp.isFirstRank) await tp.sendObject("hello", 1);
    const greeting = tp.isFirstRank ? undefined : await tp.recvObject(0);
    await state.getWorldGroup().barrier();
    return { plan, reports, all, received, shared, greeting };
  });
  const dictOf = (rank: number): unknown => ({
    x: { shape: [2], data: Float32Array.of(rank, 1) },
    layer: 4,
  });
  expect(results.map(({ plan }) => plan)).toEqual(Array(4).fill({ step: 3, ids: [1, 2] }));
  expect(results.map(({ reports }) => reports)).toEqual([
    undefined,
    undefined,
    ranksOf(4).map((rank) => ({ rank })),
    undefined,
  ]);
  expect(results.map(({ all }) => all)).toEqual([[0, 1], [0, 1], [2, 3], [2, 3]]); // prettier-ignore
  expect(results.map(({ received }) => received)).toEqual([
    undefined,
    undefined,
    dictOf(0),
    dictOf(1),
  ]);
  expect(results.map(({ shared }) => shared)).toEqual([0, 0, 2, 2].map(dictOf));
  expect(results.map(({ greeting }) => greeting)).toEqual([undefined, "hello", undefined, "hello"]);
});

describe("subgroups", () => {
  test("split cuts by color and orders by key; groups of one split work side by side", async () => {
    const results = await onEveryState(6, async (state) => {
      const world = state.getWorldGroup();
      const group = await world.split(state.rank % 3 === 2 ? -1 : state.rank % 3, -state.rank);
      const sum = await group?.allReduce(Float32Array.of(10 ** state.rank));
      const worldSum = await world.allReduce(Float32Array.of(1));
      return [group?.ranks, group?.rankInGroup, sum?.[0], worldSum[0]];
    });
    expect(results).toEqual([
      [[3, 0], 1, 1001, 6],
      [[4, 1], 1, 10010, 6],
      [undefined, undefined, undefined, 6],
      [[3, 0], 0, 1001, 6],
      [[4, 1], 0, 10010, 6],
      [undefined, undefined, undefined, 6],
    ]);
  });

  test("newGroup takes any ranks, and groups that overlap do not mix", async () => {
    const results = await onEveryState(4, async (state) => {
      const groups = [await state.newGroup([2, 0, 1]), await state.newGroup([1, 2, 3])];
      const sums = groups.map((group) =>
        Promise.resolve(group?.allReduce(Float32Array.of(10 ** state.rank))),
      );
      return [groups[0]?.rankInGroup, ...(await Promise.all(sums)).map((sum) => sum?.[0])];
    });
    expect(results).toEqual([
      [1, 111, undefined],
      [2, 111, 1110],
      [0, 111, 1110],
      [undefined, undefined, 1110],
    ]);
  });
});

test("groups can be left and others initialised; the world stays", async () => {
  await onEveryState(4, async (state) => {
    state.initializeModelParallel({ tp: 4 });
    const old = state.getTpGroup();
    expect((await old.allReduce(Float32Array.of(1)))[0]).toBe(4);
    expect(() => { state.initializeModelParallel({ tp: 4 }); }).toThrow("destroyModelParallel() first"); // prettier-ignore
    state.destroyModelParallel();
    expect(state.modelParallelIsInitialized).toBe(false);
    expect(() => state.getTpGroup()).toThrow("destroyed");
    expect(() => old.allReduce(Float32Array.of(1))).toThrow("tp group: expected a live group");
    state.initializeModelParallel({ pp: 2, tp: 2 });
    // Another operation under the number that the old group used, while some still stand there.
    if (state.rank % 2 === 1) await new Promise((resolve) => setTimeout(resolve, 250));
    expect((await state.getTpGroup().allGather(Float32Array.of(state.rank)))[0]).toBe(
      state.rank - (state.rank % 2),
    );
    await state.getWorldGroup().barrier();
  });
});

test("a group of one does nothing", async () => {
  const state = initializeModelParallel(new LoopbackHub(1).transport(0), {});
  const tp = state.getTpGroup();
  const x = Float32Array.of(1, 2);
  const parts = [new Uint8Array(3)];
  expect(await tp.allReduce(x)).toBe(x);
  expect(await tp.allGather(x)).toBe(x);
  expect((await tp.reduceScatter(x)).buffer).toBe(x.buffer);
  expect((await tp.allToAll(parts))[0]).toBe(parts[0]);
  expect(await tp.broadcastObject("x")).toBe("x");
  expect(await tp.gatherObject("x")).toEqual(["x"]);
  await tp.barrier();
  expect(state.recorder.dump().entries).toEqual([]);
});
