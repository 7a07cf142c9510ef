import { expect, test } from "vitest";
import { DebugLog, parseDebugSettings, SUBSYSTEMS } from "../../src/collectives/debugLog.ts";
import { HostCommunicator } from "../../src/collectives/hostCommunicator.ts";
import { worldGroup } from "../../src/collectives/processGroup.ts";
import { closeAll, LOCAL_WORLDS } from "./support/worlds.ts";

const subsystemsOf = (list: string): string[] => [
  ...parseDebugSettings({ TANDEM_DEBUG: "info", TANDEM_DEBUG_SUBSYS: list }).subsystems,
];

test("the environment says how much and about what", () => {
  expect(parseDebugSettings({}).level).toBe("NONE");
  expect(parseDebugSettings({ TANDEM_DEBUG: "trace" }).level).toBe("TRACE");
  expect(subsystemsOf("")).toEqual(SUBSYSTEMS);
  expect(subsystemsOf("coll,TUNING")).toEqual(["COLL", "TUNING"]);
  expect(subsystemsOf("ALL")).toEqual(SUBSYSTEMS);
  expect(subsystemsOf("^P2P")).toEqual(["INIT", "COLL", "TUNING"]);
  expect(() => parseDebugSettings({ TANDEM_DEBUG: "loud" })).toThrow(
    "TANDEM_DEBUG: expected one of NONE, WARN, INFO, TRACE, got LOUD",
  );
  expect(() => subsystemsOf("COLL,NET")).toThrow("TANDEM_DEBUG_SUBSYS: expected names of");
});

async function linesOf(env: Record<string, string>): Promise<string[]> {
  const lines: string[] = [];
  const transports = LOCAL_WORLDS.loopback(2);
  await Promise.all(
    transports.map(async (transport) => {
      const debug = new DebugLog(transport.rank, parseDebugSettings(env), (line) =>
        lines.push(line),
      );
      const host = new HostCommunicator(worldGroup(transport), { debug });
      for (const length of [100, 101, 127, 5000, 5000])
        await host.allReduce(new Float32Array(length));
      if (host.rank === 0) await host.send(1, new Uint8Array(3));
      else await host.recvBytes(0);
    }),
  );
  closeAll(transports);
  return lines.filter((line) => line.includes("rank 0"));
}

test("INFO says what was chosen and why, once a class of sizes", async () => {
  const lines = await linesOf({ TANDEM_DEBUG: "INFO" });
  expect(lines).toEqual([
    "tandem: rank 0 INFO TUNING allReduce of 400 bytes in group world (2 ranks, loopback): oneShot, f32: " +
      "table of loopback, 2 ranks: up to 65536 bytes",
    expect.stringContaining("allReduce of 20000 bytes") as string,
  ]);
});

test("TRACE names every operation, and the filter leaves out what was not asked for", async () => {
  const trace = await linesOf({ TANDEM_DEBUG: "TRACE", TANDEM_DEBUG_SUBSYS: "COLL" });
  expect(trace).toHaveLength(5);
  expect(trace[0]).toBe(
    "tandem: rank 0 TRACE COLL allReduce (oneShot, f32, 400 bytes) #1 of group world on rank 0",
  );
  expect(await linesOf({ TANDEM_DEBUG: "TRACE", TANDEM_DEBUG_SUBSYS: "P2P" })).toHaveLength(1);
  expect(await linesOf({})).toEqual([]);
});
