import { expect, test } from "vitest";
import { chooseAlgorithm } from "../../src/collectives/tuning.ts";

const KiB = 1024;

test.each([
  ["loopback", 2, 16 * KiB, "oneShot"],
  ["sharedMemory", 2, 0, "oneShot"],
  ["sharedMemory", 2, 64 * KiB, "oneShot"],
  ["sharedMemory", 4, 64 * KiB + 4, "ring"],
  ["sharedMemory", 8, 32 * KiB, "oneShot"],
  ["sharedMemory", 8, 64 * KiB, "ring"],
  ["tcp", 2, 1024 * KiB, "ring"],
] as const)(
  "allReduce over %s, %i ranks, %i bytes: %s",
  (transport, worldSize, bytes, algorithm) => {
    expect(chooseAlgorithm({ name: "allReduce", bytes, worldSize, transport })).toBe(algorithm);
  },
);

test("reduceScatter goes by ring, allGather in one step", () => {
  const query = { bytes: 4096, worldSize: 4, transport: "sharedMemory" } as const;
  expect(chooseAlgorithm({ name: "reduceScatter", ...query })).toBe("ring");
  expect(chooseAlgorithm({ name: "allGather", ...query })).toBe("oneShot");
});
