import { expect, test } from "vitest";
import {
  type AlgorithmQuery,
  chooseAlgorithm,
  requireAlgorithm,
} from "../../src/collectives/tuning.ts";
import { ALL_REDUCE_TABLE } from "../../src/collectives/tuningTable.ts";

const base = {
  name: "allReduce",
  worldSize: 2,
  transport: "sharedMemory",
  memory: "host",
} as const;
const choose = (query: Partial<AlgorithmQuery> & { bytes: number }): string =>
  chooseAlgorithm({ ...base, ...query }).algorithm;

test("every row of the table is used up to its limits, and a ring above", () => {
  for (const transport of ["loopback", "sharedMemory", "tcp"] as const) {
    let smallest = 2;
    for (const row of ALL_REDUCE_TABLE[transport]) {
      const ranks = Math.min(row.worldSize, 64);
      for (const size of [smallest, ranks]) {
        const at = (bytes: number): string => choose({ bytes, worldSize: size, transport });
        let limit = -1;
        for (const step of ["oneShot", "recursiveDoubling", "halvingDoubling"] as const) {
          if (row[step] <= limit) continue;
          expect([at(limit + 1), at(row[step])]).toEqual([step, step]);
          limit = row[step];
        }
        expect(at(limit + 1)).toBe("ring");
      }
      smallest = row.worldSize + 1;
    }
    expect(ALL_REDUCE_TABLE[transport].at(-1)?.worldSize).toBe(Infinity);
  }
});

test("the reason names the limit and the table", () => {
  const { reason } = chooseAlgorithm({ ...base, bytes: 16 });
  expect(reason).toMatch(/^table of sharedMemory, 2 ranks: up to \d+ bytes$/);
});

test("an override wins, and where an operation has it not the table does", () => {
  expect(chooseAlgorithm({ ...base, bytes: 4, override: "recursiveDoubling" })).toEqual({
    algorithm: "recursiveDoubling",
    reason: "asked for",
  });
  const { algorithm, reason } = chooseAlgorithm({
    ...base,
    name: "allGather",
    bytes: 4,
    override: "twoLevel",
  });
  expect(algorithm).toBe("oneShot");
  expect(reason).toContain("allGather has no twoLevel");
  expect(() => {
    requireAlgorithm("reduceScatter", "twoLevel");
  }).toThrow("reduceScatter: expected an algorithm of oneShot, ring, got twoLevel");
});

test("large sums of several hosts with several ranks each go by two levels", () => {
  const large = { bytes: 1 << 20, worldSize: 4, transport: "tcp" } as const;
  expect(choose({ ...large, numHosts: 2 })).toBe("twoLevel");
  expect(choose({ ...large, numHosts: 4 })).not.toBe("twoLevel"); // one rank a host: no first level
  expect(choose({ ...large, numHosts: 1 })).not.toBe("twoLevel");
  expect(choose({ ...large, bytes: 1024, numHosts: 2 })).not.toBe("twoLevel");
});

test("reduceScatter goes in one step while small, allGather always", () => {
  expect(choose({ name: "reduceScatter", bytes: 64 })).toBe("oneShot");
  expect(choose({ name: "reduceScatter", bytes: 1 << 24 })).toBe("ring");
  expect(choose({ name: "allGather", bytes: 1 << 24 })).toBe("oneShot");
});

test("sums on devices go in one step, or in two where that is fewer bytes for the host to copy", () => {
  const onDevice = (worldSize: number, bytes: number): string =>
    choose({ memory: "device", worldSize, bytes });
  expect([onDevice(2, 1 << 30), onDevice(3, 1 << 30)]).toEqual(["oneShot", "oneShot"]);
  expect([onDevice(4, 1 << 20), onDevice(4, (1 << 20) + 1)]).toEqual(["oneShot", "twoShot"]);
  expect([onDevice(8, 1 << 18), onDevice(8, (1 << 18) + 1)]).toEqual(["oneShot", "twoShot"]);
  const scatter = { memory: "device", name: "reduceScatter", bytes: 1 << 25 } as const;
  expect([choose(scatter), choose({ ...scatter, transport: "tcp" })]).toEqual(["oneShot", "ring"]);
  const network = { memory: "device", transport: "tcp" } as const;
  expect(choose({ ...network, bytes: 1 << 26 })).toBe("ring");
});
