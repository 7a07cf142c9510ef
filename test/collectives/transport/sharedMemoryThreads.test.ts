/** sharedMemory as it is used: each rank in a worker thread of its own. */
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import type { WaitMode } from "../../../src/collectives/transport/sharedBell.ts";
import {
  abortSharedMemory,
  createSharedMemory,
} from "../../../src/collectives/transport/sharedMemory.ts";
import type { RankReport, RankTask, Scenario } from "../support/rankThread.ts";
import { ranksOf } from "../support/worlds.ts";

/** Each rank's report, or its exit code where it left without one. */
async function runRanks(
  worldSize: number,
  wait: WaitMode,
  scenario: Scenario,
): Promise<(RankReport | number)[]> {
  const descriptor = createSharedMemory(worldSize, {
    publishing: { slots: 2, slotBytes: 4096 },
    mailbox: { slots: 2, slotBytes: 16_384 },
  });
  const runRank = (rank: number): Promise<RankReport | number> =>
    new Promise((resolve) => {
      const workerData: RankTask = { descriptor, rank, wait, scenario };
      const worker = new Worker(new URL("../support/rankThread.ts", import.meta.url), {
        workerData,
      });
      let report: RankReport | undefined;
      worker.on("message", (message: RankReport) => {
        report = message;
      });
      worker.on("error", (error) => {
        report = { rank, error: String(error) };
      });
      worker.on("exit", (code) => {
        if (report === undefined) {
          abortSharedMemory(descriptor, {
            rank: undefined,
            reason: `rank ${rank} exited with ${code}`,
          });
        }
        resolve(report ?? code);
      });
    });
  return Promise.all(ranksOf(worldSize).map(runRank));
}

describe.each(["async", "block"] as const)("wait: %s", (wait) => {
  test.each([2, 3])(
    "%i threads run mixed operations with the same bits everywhere",
    async (worldSize) => {
      const reports = await runRanks(worldSize, wait, "mixed");
      const digests = reports.map((report) =>
        typeof report === "number" ? report : report.result,
      );
      expect(reports).toEqual(ranksOf(worldSize).map((rank) => ({ rank, result: digests[0] })));
      expect(digests[0]).toMatch(/^-?\d+$/);
    },
  );

  test("a waiting thread stays alive until its deadline and names the missing rank", async () => {
    const [first, ...others] = await runRanks(3, wait, "missing");
    expect(first).toEqual({ rank: 0, result: "done" });
    for (const report of others) {
      expect(report).toMatchObject({
        error: expect.stringMatching(/rank 0 (did not arrive|has left)/) as string,
      });
    }
  });

  test("a thread that dies ends the others at once when whoever watches it says so", async () => {
    const begin = performance.now();
    const reports = await runRanks(3, wait, "dying");
    expect(reports[1]).toBe(3);
    for (const report of [reports[0], reports[2]]) {
      expect(report).toMatchObject({
        error: expect.stringContaining("rank 1 exited with 3") as string,
      });
    }
    expect(performance.now() - begin).toBeLessThan(8000);
  });
});
