import { expect, test } from "vitest";
import { lavapipeThreads } from "../../src/device/lavapipeThreadsNode.ts";

test("lavapipe has no threads of its own on two cores, unless the user says so", () => {
  expect([1, 2, 3, 64].map((numCores) => lavapipeThreads({}, numCores))).toEqual([
    "0",
    "0",
    undefined,
    undefined,
  ]);
  expect(lavapipeThreads({ LP_NUM_THREADS: "2" }, 2)).toBeUndefined();
});
