import fc from "fast-check";
import { expect, test } from "vitest";
import {
  chunkRange,
  oneShotPeers,
  ringAllGather,
  ringReduceScatter,
} from "../../src/collectives/schedules.ts";
import { ranksOf } from "./support/worlds.ts";

const WORLD_SIZES = [1, 2, 3, 4, 5, 6, 7, 8];

test("chunks cover the length once, in order, and differ by at most one", () => {
  fc.assert(
    fc.property(fc.nat(100_000), fc.integer({ min: 1, max: 8 }), (length, worldSize) => {
      const chunks = ranksOf(worldSize).map((rank) => chunkRange(length, worldSize, rank));
      expect(chunks[0]?.begin).toBe(0);
      expect(chunks.at(-1)?.end).toBe(length);
      chunks.slice(1).forEach((chunk, i) => {
        expect(chunk.begin).toBe(chunks[i]?.end);
      });
      const sizes = chunks.map(({ begin, end }) => end - begin);
      expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
    }),
    {
      examples: [
        [0, 1],
        [0, 8],
        [1, 8],
        [7, 8],
        [9, 8],
      ],
    },
  );
});

test.each(WORLD_SIZES)(
  "ring of %i: what a rank sends is what its right neighbour expects",
  (worldSize) => {
    for (const schedule of [ringReduceScatter, ringAllGather]) {
      const steps = ranksOf(worldSize).map((rank) => schedule(rank, worldSize));
      steps.forEach((own, rank) => {
        expect(own).toHaveLength(worldSize - 1);
        own.forEach(({ to, sendChunk, recvChunk }, step) => {
          expect(steps[to]?.[step]).toMatchObject({ from: rank, recvChunk: sendChunk });
          expect(recvChunk).not.toBe(sendChunk);
        });
      });
    }
  },
);

test.each(WORLD_SIZES)(
  "ring of %i: each chunk visits each rank once and ends where it belongs",
  (worldSize) => {
    // contributions[rank][chunk]: the ranks whose part is in rank's copy of the chunk
    const contributions = ranksOf(worldSize).map((rank) => ranksOf(worldSize).map(() => [rank]));
    run(ringReduceScatter, (own, arriving) => [...own, ...arriving]);
    for (const rank of ranksOf(worldSize)) {
      expect(contributions[rank]?.[rank]?.toSorted()).toEqual(ranksOf(worldSize));
    }
    run(ringAllGather, (_, arriving) => arriving);
    for (const chunks of contributions) {
      for (const chunk of chunks) expect(chunk.toSorted()).toEqual(ranksOf(worldSize));
    }

    function run(
      schedule: typeof ringAllGather,
      combine: (own: number[], arriving: number[]) => number[],
    ): void {
      for (let step = 0; step < worldSize - 1; step++) {
        const before = structuredClone(contributions);
        for (const rank of ranksOf(worldSize)) {
          const at = schedule(rank, worldSize)[step];
          const chunks = contributions[rank];
          if (at === undefined || chunks === undefined) throw new Error("no such step");
          const arriving = before[at.from]?.[at.recvChunk] ?? [];
          chunks[at.recvChunk] = combine(chunks[at.recvChunk] ?? [], arriving);
        }
      }
    }
  },
);

test("one-shot peers are all other ranks, in rank order", () => {
  expect(oneShotPeers(1, 4)).toEqual([0, 2, 3]);
  expect(oneShotPeers(0, 1)).toEqual([]);
});
