import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { HostCommunicator } from "../../../src/collectives/hostCommunicator.ts";
import { worldGroup } from "../../../src/collectives/processGroup.ts";
import {
  type FlightReport,
  installFlightDump,
  writeFlightReport,
} from "../../../src/collectives/watchdog/flightDumpNode.ts";
import { createLogger } from "../../../src/common/logger.ts";
import { closeAll, LOCAL_WORLDS } from "../support/worlds.ts";

const directory = mkdtempSync(join(tmpdir(), "tandem-test-"));
const logger = createLogger("test", { level: "silent" });
let uninstall: (() => void)[] = [];

afterEach(() => {
  for (const remove of uninstall) remove();
  uninstall = [];
  rmSync(directory, { recursive: true, force: true });
});

function reports(): FlightReport[] {
  const names = readdirSync(directory).sort();
  return names.map(
    (name) => JSON.parse(readFileSync(join(directory, name), "utf8")) as FlightReport,
  );
}

function installedWorld(timeoutMs: number): { hosts: HostCommunicator[]; close: () => void } {
  const transports = LOCAL_WORLDS.loopback(2);
  const hosts = transports.map((transport) => {
    const host = new HostCommunicator(worldGroup(transport), { timeoutMs });
    uninstall.push(installFlightDump(host.recorder, transport.control, { directory, logger }));
    return host;
  });
  return { hosts, close: () => { closeAll(transports); } }; // prettier-ignore
}

test("a failure writes every rank's last operations, once, with everybody's progress", async () => {
  const { hosts, close } = installedWorld(100);
  await Promise.all(hosts.map((host) => host.barrier()));
  await expect(hosts[0]?.allReduce(new Float32Array(4))).rejects.toThrow("rank 1 did not arrive");
  await expect(hosts[0]?.barrier()).rejects.toThrow("aborted");
  close();
  const [report, ...others] = reports();
  expect(others).toEqual([]);
  expect(report?.reason).toContain("rank 1 did not arrive within 100 ms");
  expect(report).toMatchObject({ rank: 0, pid: process.pid, abort: { rank: 0 } });
  expect(report?.entries.map(({ name }) => name)).toEqual(["barrier", "allReduce"]);
  expect(report?.entries[1]?.error).toBe(report?.reason);
  expect(report?.progress).toMatchObject([
    { rank: 0, started: 2, completed: 1 },
    { rank: 1, started: 1, completed: 1 },
  ]);
});

test("SIGUSR2 writes the record of every rank, and changes nothing else", async () => {
  const { hosts, close } = installedWorld(1000);
  await Promise.all(hosts.map((host) => host.barrier()));
  process.kill(process.pid, "SIGUSR2");
  await expect.poll(() => (uninstall.length > 0 ? reportCount() : 0), { timeout: 2000 }).toBe(2);
  expect(reports().map(({ rank, reason }) => [rank, reason])).toEqual([
    [0, "asked for by SIGUSR2"],
    [1, "asked for by SIGUSR2"],
  ]);
  await Promise.all(hosts.map((host) => host.barrier()));
  close();

  function reportCount(): number {
    try {
      return readdirSync(directory).length;
    } catch {
      return 0;
    }
  }
});

test("a folder that cannot be written to is said, not thrown", () => {
  const lines: string[] = [];
  const write = (line: string): void => {
    lines.push(line);
  };
  const { hosts, close } = installedWorld(1000);
  const [host] = hosts;
  if (host === undefined) throw new Error("no rank");
  const options = {
    directory: "/dev/null/x",
    logger: createLogger("test", { level: "warn", write }),
  };
  const { control } = host.group.transport;
  expect(writeFlightReport(host.recorder, control, "why", options)).toBeUndefined();
  expect(lines[0]).toContain("rank 0: no flight record");
  close();
});
