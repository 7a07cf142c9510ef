/** What every communicator must do, whether its data lies in host memory or on a device. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chunkRange } from "../../src/collectives/schedules.ts";
import { bitsOf, randomFloats } from "./support/data.ts";
import type { OnEveryMember } from "./support/members.ts";
import { expectSums, sumOracle } from "./support/sums.ts";
import { ranksOf } from "./support/worlds.ts";

export interface SuiteOptions {
  readonly maxWorldSize: number;
  /** Cases a property. */
  readonly numRuns: number;
}

export function communicatorSuite(
  name: string,
  everywhere: OnEveryMember,
  { maxWorldSize, numRuns }: SuiteOptions,
): void {
  const worldSizes = fc.integer({ min: 1, max: maxWorldSize });
  const rowCounts = fc.oneof(fc.constantFrom(0, 1, 2, 7), fc.nat(20));
  const columnCounts = fc.integer({ min: 1, max: 9 });
  const matrices = fc.tuple(worldSizes, rowCounts, columnCounts, fc.nat());
  const holds = (
    property: (args: [number, number, number, number]) => Promise<void>,
  ): Promise<void> =>
    fc.assert(fc.asyncProperty(matrices, property), {
      numRuns,
      examples: [[[maxWorldSize, 0, 3, 1]], [[maxWorldSize, 1, 1, 2]], [[2, 5, 8, 3]]],
    });
  const inputOf = (rank: number, rows: number, columns: number, seed: number): Float32Array =>
    randomFloats(rows * columns, seed + rank);

  describe(name, () => {
    test("allReduce: the sum on every rank, with the same bits, twice", async () => {
      await holds(async ([worldSize, rows, columns, seed]) => {
        const run = (): Promise<Float32Array[]> =>
          everywhere(worldSize, ({ rank, allReduce }) =>
            allReduce(inputOf(rank, rows, columns, seed), columns),
          );
        const results = [...(await run()), ...(await run())];
        const [sums, bounds] = sumOracle(worldSize, rows * columns, seed);
        for (const result of results) {
          expect(result).toHaveLength(rows * columns);
          expect(bitsOf(result)).toEqual(bitsOf(results[0] ?? result));
          expectSums(result, 0, sums, bounds);
        }
      });
    });

    test("reduceScatter: each rank its rows of the sum", async () => {
      await holds(async ([worldSize, rows, columns, seed]) => {
        const chunks = await everywhere(worldSize, ({ rank, reduceScatter }) =>
          reduceScatter(inputOf(rank, rows, columns, seed), columns),
        );
        const [sums, bounds] = sumOracle(worldSize, rows * columns, seed);
        chunks.forEach((chunk, rank) => {
          const { begin, end } = chunkRange(rows, worldSize, rank);
          expect(chunk).toHaveLength((end - begin) * columns);
          expectSums(chunk, begin * columns, sums, bounds);
        });
      });
    });

    test("allGather: all rows, in rank order", async () => {
      await holds(async ([worldSize, rows, columns, seed]) => {
        const whole = inputOf(0, rows, columns, seed);
        const results = await everywhere(worldSize, ({ rank, allGather }) => {
          const { begin, end } = chunkRange(rows, worldSize, rank);
          return allGather(whole.slice(begin * columns, end * columns), columns, rows);
        });
        for (const result of results) expect(result).toEqual(whole);
      });
    });

    test("broadcast and gather: from the root, and to it", async () => {
      await holds(async ([worldSize, rows, columns, seed]) => {
        const root = seed % worldSize;
        const parts = ranksOf(worldSize).map((rank) => inputOf(rank, rows, columns, seed));
        const results = await everywhere(worldSize, async ({ rank, broadcast, gather }) => [
          await broadcast((parts[rank] ?? new Float32Array(0)).slice(), root),
          await gather(parts[rank] ?? new Float32Array(0), root),
        ]);
        results.forEach((result, rank) => {
          expect(result).toEqual([parts[root], rank === root ? parts : undefined]);
        });
      });
    });

    test("allToAll: as many rows from each rank as it sent, whatever the counts", async () => {
      await holds(async ([worldSize, , columns, seed]) => {
        const rowsFrom = (from: number, to: number): number => (seed + 3 * from + 5 * to) % 4;
        const partOf = (from: number, to: number): Float32Array =>
          randomFloats(rowsFrom(from, to) * columns, seed + 31 * from + to);
        const results = await everywhere(worldSize, ({ rank, allToAll }) =>
          allToAll(
            ranksOf(worldSize).map((to) => partOf(rank, to)),
            columns,
          ),
        );
        results.forEach((received, rank) => {
          expect(received).toEqual(ranksOf(worldSize).map((from) => partOf(from, rank)));
        });
      });
    });

    test("send and recv pass data along a chain", async () => {
      const x = randomFloats(40, 9);
      const results = await everywhere(Math.min(4, maxWorldSize), async (member) => {
        const { rank, worldSize, send, recv } = member;
        const received = rank === 0 ? x : await recv(x.length, rank - 1);
        if (rank < worldSize - 1) await send(received, rank + 1);
        return received;
      });
      for (const result of results) expect(result).toEqual(x);
    });

    test("tensor dicts arrive with names, shapes, dtypes and plain values that nobody announced", async () => {
      const dict = {
        residual: { shape: [3, 5], data: randomFloats(15, 1), dtype: "f32" },
        step: 7,
        rows: { shape: [3], data: Uint32Array.of(4, 5, 6), dtype: "u32" },
        note: { text: "ä", list: [1, null, true] },
        half: { shape: [3], data: Uint16Array.of(1, 2, 65535), dtype: "bf16" },
        none: { shape: [0, 4], data: new Float32Array(0), dtype: "f32" },
      } as const;
      const results = await everywhere(2, async (member) => {
        if (member.rank === 0) await member.sendTensorDict(dict, 1);
        return member.rank === 0 ? undefined : member.recvTensorDict(0);
      });
      expect(results[1]).toEqual(dict);
      expect(Object.keys(results[1] ?? {})).toEqual(Object.keys(dict));
    });

    test("barrier ends nowhere before all ranks have begun it", async () => {
      let numBegun = 0;
      const seen = await everywhere(maxWorldSize, async ({ rank, barrier }) => {
        await new Promise((resolve) => setTimeout(resolve, 5 * rank));
        numBegun += 1;
        await barrier();
        return numBegun;
      });
      expect(new Set(seen)).toEqual(new Set([maxWorldSize]));
    });

    test("a rank that never comes is named on every rank that waits for it", async () => {
      const waits = await everywhere(
        2,
        async ({ rank, allReduce }) => {
          if (rank === 1) return "absent";
          return allReduce(new Float32Array(4), 4).then(
            () => "done",
            (error: unknown) => String(error),
          );
        },
        200,
      );
      expect(waits[0]).toContain("rank 1 did not arrive within 200 ms");
    });
  });
}
