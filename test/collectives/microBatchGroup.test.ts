import { expect, test } from "vitest";
import { HostCommunicator } from "../../src/collectives/hostCommunicator.ts";
import { microBatchGroup } from "../../src/collectives/microBatchGroup.ts";
import { ParallelState } from "../../src/collectives/parallelState.ts";
import { LoopbackHub } from "../../src/collectives/transport/loopback.ts";
import { ranksOf } from "./support/worlds.ts";

test("ranks may come to the sums of two micro-batches in another order", async () => {
  const hub = new LoopbackHub(2);
  const sums = await Promise.all(
    ranksOf(2).map(async (rank) => {
      const transport = hub.transport(rank);
      const tp = new ParallelState(transport, { tp: 2 }).getTpGroup();
      const [first, second] = [0, 1].map((microBatch) => {
        const group = microBatchGroup(transport, tp, microBatch);
        return new HostCommunicator(group, { timeoutMs: 5000 });
      });
      const sumOf = (comm: HostCommunicator | undefined, x: number): Promise<Float32Array> =>
        comm?.allReduce(Float32Array.of(x)) ?? Promise.resolve(new Float32Array(0));
      // the same number of operations in each, begun the other way round; sizes and names agree
      const begun =
        rank === 0
          ? [sumOf(first, 1), sumOf(second, 10)]
          : [sumOf(second, 20), sumOf(first, 2)].reverse();
      return (await Promise.all(begun)).map(([sum]) => sum);
    }),
  );
  expect(sums).toEqual([
    [3, 30],
    [3, 30],
  ]);
});

test("each group has a namespace of its own, below those of subgroups", () => {
  const transport = new LoopbackHub(4).transport(0);
  const state = new ParallelState(transport, { tp: 2, pp: 2 });
  const [tp, pp] = [state.getTpGroup(), state.getPpGroup()];
  expect(microBatchGroup(transport, tp, 0)).toBe(tp);
  const seconds = [tp, pp].map((group) => microBatchGroup(transport, group, 1));
  expect(seconds).toMatchObject([
    { name: "tp/1", ranks: tp.ranks, namespace: 30 },
    { name: "pp/1", ranks: pp.ranks, namespace: 31 },
  ]);
});

test("other groups and a third micro-batch are refused", () => {
  const transport = new LoopbackHub(1).transport(0);
  const state = new ParallelState(transport, {});
  const world = state.getWorldGroup();
  expect(() => microBatchGroup(transport, world, 1)).toThrow("micro-batch 1 of group world");
  const tp = state.getTpGroup();
  expect(() => microBatchGroup(transport, tp, 2)).toThrow("a number below 2");
});
