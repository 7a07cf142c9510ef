/** What only the communicator of host memory does, on every transport of one thread. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { HostCommunicator } from "../../src/collectives/hostCommunicator.ts";
import { chunkRange } from "../../src/collectives/schedules.ts";
import { ALGORITHMS } from "../../src/collectives/signature.ts";
import { bitsOf, randomBytes, randomFloats } from "./support/data.ts";
import { expectSums, sumOracle } from "./support/sums.ts";
import { type MakeWorld, onEveryRank, ranksOf, WORLDS } from "./support/worlds.ts";

const worldSizes = fc.integer({ min: 1, max: 8 });
const lengths = fc.oneof(fc.constantFrom(0, 1, 2, 7, 8, 9, 31, 33), fc.nat(300));
const NUM_RUNS = 40; // a property and transport

function hostSuite(name: string, makeWorld: MakeWorld): void {
  const everywhere = <T>(
    worldSize: number,
    body: (communicator: HostCommunicator) => Promise<T>,
  ): Promise<T[]> => onEveryRank(makeWorld, worldSize, body);

  describe(name, () => {
    test.each([...ALGORITHMS, "auto"] as const)(
      "allReduce %s: right, bit-equal on all ranks and on a second run",
      async (algorithm) => {
        const agrees = async (worldSize: number, length: number, seed: number): Promise<void> => {
          const run = (): Promise<Float32Array[]> =>
            everywhere(worldSize, (communicator) =>
              communicator.allReduce(randomFloats(length, seed + communicator.rank), { algorithm }),
            );
          const [first, second] = [await run(), await run()];
          const [sums, bounds] = sumOracle(worldSize, length, seed);
          for (const result of [...first, ...second]) {
            expect(bitsOf(result)).toEqual(bitsOf(first[0] ?? result));
          }
          expectSums(first[0] ?? new Float32Array(0), 0, sums, bounds);
          expect(first[0]).toHaveLength(length);
        };
        await fc.assert(fc.asyncProperty(worldSizes, lengths, fc.nat(), agrees), {
          numRuns: NUM_RUNS,
          examples: [
            [8, 0, 1],
            [8, 1, 1],
            [8, 7, 1],
            [2, 300, 1],
          ],
        });
      },
    );

    test("reduceScatter gives each rank its chunk of the sum", async () => {
      const agrees = async (worldSize: number, length: number, seed: number): Promise<void> => {
        const chunks = await everywhere(worldSize, (communicator) =>
          communicator.reduceScatter(randomFloats(length, seed + communicator.rank)),
        );
        const [sums, bounds] = sumOracle(worldSize, length, seed);
        chunks.forEach((chunk, rank) => {
          const { begin, end } = chunkRange(length, worldSize, rank);
          expect(chunk).toHaveLength(end - begin);
          expectSums(chunk, begin, sums, bounds);
        });
      };
      await fc.assert(fc.asyncProperty(worldSizes, lengths, fc.nat(), agrees), {
        numRuns: NUM_RUNS,
      });
    });

    test("allGather, gather and exchange move every rank's bytes, of different sizes too", async () => {
      const agrees = async (worldSize: number, size: number, seed: number): Promise<void> => {
        const parts = ranksOf(worldSize).map((rank) => randomBytes(size + 3 * rank, seed + rank));
        const root = seed % worldSize;
        const results = await everywhere(worldSize, async (communicator) => {
          const own = parts[communicator.rank] ?? new Uint8Array(0);
          const exchanged = ranksOf(worldSize).map(() => new Uint8Array(size));
          const put = (from: number, part: { bytes: Uint8Array; offset: number }): void => {
            exchanged[from]?.set(part.bytes, part.offset);
          };
          await communicator.exchange(own.subarray(0, size), put);
          exchanged[communicator.rank]?.set(own.subarray(0, size));
          const gathered = await communicator.gather(own, root);
          return { all: await communicator.allGatherBytes(own), gathered, exchanged };
        });
        results.forEach(({ all, gathered, exchanged }, rank) => {
          expect(all).toEqual(parts);
          expect(gathered).toEqual(rank === root ? parts : undefined);
          expect(exchanged).toEqual(parts.map((part) => part.subarray(0, size)));
        });
      };
      await fc.assert(fc.asyncProperty(worldSizes, lengths, fc.nat(), agrees), {
        numRuns: NUM_RUNS,
      });
    });

    test("allGather joins floats in rank order", async () => {
      const results = await everywhere(3, (communicator) =>
        communicator.allGather(
          Float32Array.from({ length: communicator.rank }, () => communicator.rank),
        ),
      );
      for (const result of results) expect([...result]).toEqual([1, 2, 2]);
    });

    test("broadcast gives every rank the root's bytes", async () => {
      const agrees = async (worldSize: number, size: number, seed: number): Promise<void> => {
        const root = seed % worldSize;
        const bytes = randomBytes(size, seed);
        const results = await everywhere(worldSize, async (communicator) => {
          const isRoot = communicator.rank === root;
          const inPlace = isRoot ? new Uint8Array(bytes) : new Uint8Array(size);
          await communicator.broadcast(inPlace, root);
          return [inPlace, await communicator.broadcastBytes(isRoot ? bytes : undefined, root)];
        });
        for (const result of results) expect(result).toEqual([bytes, bytes]);
      };
      await fc.assert(fc.asyncProperty(worldSizes, lengths, fc.nat(), agrees), {
        numRuns: NUM_RUNS,
      });
    });

    test("send and recv pass a message along a chain, numbered per pair", async () => {
      const bytes = randomBytes(1000, 1);
      const results = await everywhere(4, async (communicator) => {
        const { rank, worldSize } = communicator;
        let received: Uint8Array = bytes;
        for (let round = 0; round < 3; round++) {
          if (rank > 0) received = await communicator.recvBytes(rank - 1);
          if (rank < worldSize - 1) await communicator.send(rank + 1, received);
        }
        await communicator.barrier();
        return received;
      });
      for (const result of results) expect(result).toEqual(bytes);
    });

    test("barrier ends nowhere before all ranks have begun it", async () => {
      let numBegun = 0;
      const seen = await everywhere(5, async (communicator) => {
        await new Promise((resolve) => setTimeout(resolve, 5 * communicator.rank));
        numBegun += 1;
        await communicator.barrier();
        return numBegun;
      });
      expect(seen).toEqual([5, 5, 5, 5, 5]);
    });

    test("operations started without awaiting end in any order, each with its own data", async () => {
      const results = await everywhere(3, async (communicator) => {
        const started = [3, 40, 200].map((length, i) =>
          communicator.allReduce(new Float32Array(length).fill(i + 1), { algorithm: "oneShot" }),
        );
        return (await Promise.all(started)).map((sum) => [sum.length, ...new Set(sum)]);
      });
      for (const result of results)
        expect(result).toEqual([
          [3, 3],
          [40, 6],
          [200, 9],
        ]);
    });

    test("a world of one does nothing", async () => {
      const [recorded] = await everywhere(1, async (communicator) => {
        const x = Float32Array.of(1, 2);
        expect(await communicator.allReduce(x)).toBe(x);
        expect(await communicator.allGather(x)).toBe(x);
        await communicator.barrier();
        return communicator.recorder.dump().entries;
      });
      expect(recorded).toEqual([]);
    });
  });
}

for (const [name, makeWorld] of Object.entries(WORLDS)) hostSuite(name, makeWorld);
