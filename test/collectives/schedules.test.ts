import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  chunkRange,
  coreSize,
  doublingPartners,
  halvingDoubling,
  oneShotPeers,
  ringAllGather,
  ringAllReduce,
  ringReduceScatter,
  type ScheduleStep,
  twoLevelPlan,
} from "../../src/collectives/schedules.ts";
import { ranksOf } from "./support/worlds.ts";

const WORLD_SIZES = [1, 2, 3, 4, 5, 6, 7, 8, 11, 16];
type Schedule = (rank: number, worldSize: number) => ScheduleStep[];

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

/** A message in flight: whose contributions each of its chunks holds. */
interface Mail {
  readonly begin: number;
  readonly isFinal: boolean;
  readonly parts: readonly (readonly number[])[];
}

/**
 * Runs a schedule on sets of contributions, message by message, and checks on the way that every message
 * is expected as it is sent, that no contribution is added twice, and that only whole sums are final.
 */
function simulate(schedule: Schedule, worldSize: number, initial: number[][][]): number[][][] {
  const numChunks = initial[0]?.length ?? 0;
  const held = initial.map((chunks) => chunks.map((parts) => [...parts]));
  const mail = new Map<string, Mail[]>();
  const pending = ranksOf(worldSize).map((rank) => schedule(rank, worldSize));
  const sent = pending.map(() => false); // this rank's current step has sent
  const all = ranksOf(worldSize);
  for (let progressed = true; progressed;) {
    progressed = false;
    for (const rank of all) {
      const step = pending[rank]?.[0];
      const own = held[rank];
      if (step === undefined || own === undefined) continue;
      if (step.send !== undefined && sent[rank] !== true) {
        const { to, chunks, isFinal } = step.send;
        const parts = own.slice(chunks.begin, chunks.end).map((part) => [...part]);
        if (isFinal) for (const part of parts) expect(part.toSorted((a, b) => a - b)).toEqual(all);
        const queue = mail.get(`${rank}>${to}`) ?? [];
        queue.push({ begin: chunks.begin, isFinal, parts });
        mail.set(`${rank}>${to}`, queue);
        sent[rank] = progressed = true;
      }
      if (step.recv !== undefined) {
        const { from, chunks, combine } = step.recv;
        const message = mail.get(`${from}>${rank}`)?.shift();
        if (message === undefined) continue;
        expect([message.begin, message.parts.length]).toEqual([
          chunks.begin,
          chunks.end - chunks.begin,
        ]);
        expect(message.isFinal).toBe(combine === "replace");
        message.parts.forEach((part, i) => {
          const chunk = chunks.begin + i;
          own[chunk] = combine === "add" ? [...(own[chunk] ?? []), ...part] : [...part];
          expect(new Set(own[chunk]).size).toBe(own[chunk].length);
        });
      }
      pending[rank]?.shift();
      sent[rank] = false;
      progressed = true;
    }
  }
  expect(pending.flat()).toEqual([]); // nobody waits for a message that never comes
  expect([...mail.values()].flat()).toEqual([]); // and none is left over
  expect(held.every((chunks) => chunks.length === numChunks)).toBe(true);
  return held;
}

function ownParts(worldSize: number, numChunks: number): number[][][] {
  return ranksOf(worldSize).map((rank) => ranksOf(numChunks).map(() => [rank]));
}

describe.each(WORLD_SIZES)("%i ranks", (worldSize) => {
  const all = ranksOf(worldSize);

  test.each([
    ["ring", ringAllReduce, worldSize],
    ["halvingDoubling", halvingDoubling, coreSize(worldSize)],
  ] as const)(
    "%s: every chunk holds every contribution once, on every rank",
    (_, schedule, numChunks) => {
      const held = simulate(schedule, worldSize, ownParts(worldSize, numChunks));
      for (const chunk of held.flat()) expect(chunk.toSorted((a, b) => a - b)).toEqual(all);
    },
  );

  test("ring: reduce-scatter ends with chunk `rank` summed; each chunk visits each rank once", () => {
    const held = simulate(ringReduceScatter, worldSize, ownParts(worldSize, worldSize));
    for (const rank of all) {
      const visited = held[rank]?.[rank] ?? [];
      expect(visited.toSorted((a, b) => a - b)).toEqual(all);
      // in ring order, beginning behind its owner
      expect(visited.at(0)).toBe(rank);
    }
  });

  test("ring: all-gather spreads each rank's own chunk", () => {
    const initial = all.map((rank) => all.map((chunk) => (chunk === rank ? [...all] : [])));
    const held = simulate(ringAllGather, worldSize, initial);
    for (const chunk of held.flat()) expect(chunk).toHaveLength(worldSize);
  });

  test("each algorithm takes the steps and moves the chunks that it should", () => {
    const moved = (schedule: Schedule, rank: number): number =>
      schedule(rank, worldSize).reduce(
        (sum, { send }) => sum + (send === undefined ? 0 : send.chunks.end - send.chunks.begin),
        0,
      );
    for (const rank of all) {
      expect(ringAllReduce(rank, worldSize)).toHaveLength(2 * (worldSize - 1));
      expect(moved(ringAllReduce, rank)).toBe(2 * (worldSize - 1));
    }
    if (coreSize(worldSize) !== worldSize) return;
    for (const rank of all) {
      expect(halvingDoubling(rank, worldSize)).toHaveLength(2 * Math.log2(worldSize));
      expect(moved(halvingDoubling, rank)).toBe(2 * (worldSize - 1));
    }
  });

  test("recursive doubling: partners are mutual and reach every core rank", () => {
    const core = coreSize(worldSize);
    for (const rank of ranksOf(core)) {
      const reached = new Set([rank]);
      doublingPartners(rank, worldSize).forEach((partner, step) => {
        expect(doublingPartners(partner, worldSize)[step]).toBe(rank);
        for (const seen of reached) reached.add(seen ^ (2 ** step));
      });
      expect(reached.size).toBe(core);
    }
  });
});

test("two levels: every shard has one owner a host, and all owners name each other", () => {
  const hosts = fc.array(fc.nat(3), { minLength: 1, maxLength: 9 });
  fc.assert(
    fc.property(hosts, (hostOf) => {
      const plans = ranksOf(hostOf.length).map((rank) => twoLevelPlan(rank, hostOf));
      const numHosts = new Set(hostOf).size;
      for (const [rank, { local, numShards, shard, across }] of plans.entries()) {
        expect(local.every((other) => hostOf[other] === hostOf[rank])).toBe(true);
        expect(local).toContain(rank);
        expect(numShards).toBe(plans[0]?.numShards);
        expect(local.length).toBeGreaterThanOrEqual(numShards);
        expect(shard === undefined).toBe(local.indexOf(rank) >= numShards);
        if (shard === undefined) continue;
        expect(across).toContain(rank);
        expect(new Set(across.map((other) => hostOf[other])).size).toBe(numHosts);
        for (const other of across) expect(plans[other]).toMatchObject({ shard, across });
      }
    }),
    { examples: [[[0]], [[0, 0, 1, 1]], [[0, 1, 0, 0, 2]]] },
  );
});

test("one-shot peers are all other ranks, in rank order", () => {
  expect(oneShotPeers(1, 4)).toEqual([0, 2, 3]);
  expect(oneShotPeers(0, 1)).toEqual([]);
});
