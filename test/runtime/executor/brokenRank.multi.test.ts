/**
 * A rank that breaks: every request fails with the cause, long before any deadline; the process does not
 * hang. Each case is a process of its own, since its end is part of the matter.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { FlightReport } from "../../../src/collectives/watchdog/flightDumpNode.ts";
import { testAdapter, testDeviceIndex } from "../../support/gpu.ts";
import { fixtureDir } from "../../support/goldens.ts";
import { testOpener } from "../../support/layouts.ts";
import type { BrokenRun, BrokenRunReport } from "./support/brokenRun.ts";

const FAULTS = new URL("./support/rankFaults.ts", import.meta.url).pathname;
const SCRIPT = new URL("./support/brokenRun.ts", import.meta.url).pathname;

interface Ended {
  readonly report: BrokenRunReport;
  readonly code: number | null;
  /** What ranks wrote of their last operations; each file is named on stderr. */
  readonly flights: readonly FlightReport[];
}

function readFlight(path: string, stderr: string): FlightReport {
  expect(stderr).toContain(path);
  return JSON.parse(readFileSync(path, "utf8")) as FlightReport;
}

async function runBroken(
  run: Omit<BrokenRun, "model" | "device" | "rank" | "collectiveTimeoutMs">,
  { collectiveTimeoutMs = 30_000, nodeFlags = [] as readonly string[] } = {},
): Promise<Ended> {
  const folder = mkdtempSync(join(tmpdir(), "tandem-broken-"));
  const device = await testDeviceIndex();
  const full = { ...run, model: fixtureDir("llama-gqa-tied"), device, rank: 1 };
  const args = ["--import", FAULTS, SCRIPT, JSON.stringify({ ...full, collectiveTimeoutMs })];
  const child = spawn(process.execPath, [...nodeFlags, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, TANDEM_FLIGHT_RECORDER_DIR: folder },
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  const line = stdout.split("\n").find((text) => text.startsWith("{"));
  if (line === undefined) throw new Error(`no report, exit code ${code}: ${stdout}${stderr}`);
  const flights = readdirSync(folder).map((name) => readFlight(join(folder, name), stderr));
  rmSync(folder, { recursive: true });
  return { report: JSON.parse(line) as BrokenRunReport, code, flights };
}

type Case = Pick<BrokenRun, "executor" | "fault" | "when" | "isOverlapped"> & {
  readonly cause: RegExp;
};

/** Each process compiles anew, seconds on SwiftShader: there, one case an executor if lavapipe has them all. */
async function skipIfSlow(fault: BrokenRun["fault"], when: BrokenRun["when"]): Promise<boolean> {
  const isShort = fault === "lose" && when === "busy";
  if (testAdapter !== "SwiftShader" || isShort) return false;
  return (await testOpener.list()).some(({ name }) => name.includes("llvmpipe"));
}

const EXITED = /rank 1.*exit code 3/;
const NO_MEMORY = /no memory left on the device/;
const LOST = /lost \(destroyed\)/;
const cases: readonly Case[] = [
  { executor: "inProcess", fault: "lose", when: "busy", cause: LOST },
  { executor: "inProcess", fault: "lose", when: "idle", cause: LOST },
  { executor: "workerThreads", fault: "lose", when: "busy", cause: LOST },
  { executor: "workerThreads", fault: "lose", when: "idle", cause: LOST },
  { executor: "workerThreads", fault: "throw", when: "busy", cause: /rank 1.*planted exception/ },
  { executor: "workerThreads", fault: "exit", when: "idle", cause: /rank 1.*exit code 3/ },
  { executor: "workerThreads", fault: "exitBefore", when: "busy", cause: EXITED },
  { executor: "workerThreads", fault: "exitDuring", when: "busy", cause: EXITED },
  { executor: "workerThreads", fault: "exitAfter", when: "busy", cause: EXITED },
  { executor: "inProcess", fault: "noDeviceMemory", when: "busy", cause: NO_MEMORY },
  { executor: "workerThreads", fault: "noDeviceMemory", when: "busy", cause: NO_MEMORY },
];
const overlapped: readonly Case[] = [
  { executor: "inProcess", fault: "lose", when: "busy", cause: LOST },
  { executor: "workerThreads", fault: "lose", when: "busy", cause: LOST },
  { executor: "workerThreads", fault: "throw", when: "busy", cause: /rank 1.*planted exception/ },
  { executor: "workerThreads", fault: "exitDuring", when: "busy", cause: EXITED },
].map((each) => ({ ...each, isOverlapped: true }) as Case);

const alone = cases.map((each) => ({ ...each, isOverlapped: false }));

test.for([...alone, ...overlapped])(
  "$executor, $fault while $when, overlapped: $isOverlapped",
  async ({ cause, ...run }, { skip }) => {
    skip(await skipIfSlow(run.fault, run.when), "runs on lavapipe");
    const { report, code, flights } = await runBroken(run);
    expect(report.failures).toHaveLength(run.when === "busy" ? 2 : 0);
    for (const failure of [...report.failures, report.laterFailure]) expect(failure).toMatch(cause);
    expect(report.failedAfterMs).toBeLessThan(5_000); // the deadline of a collective is 30 s
    expect(report.shutdownMs).toBeLessThan(5_000);
    if (run.fault.startsWith("exit") && run.when === "busy") expectFlightOf(flights, cause);
    expect(code).toBe(0); // the script took the failure in its stride, and nothing keeps it alive
  },
);

/** The rank that is left has written what it was in the middle of. */
function expectFlightOf(flights: readonly FlightReport[], cause: RegExp): void {
  const flight = flights.find(({ rank }) => rank === 0);
  expect(flight?.reason).toMatch(cause);
  // with two micro-batches another operation may be under way
  expect(flight?.entries.findLast(({ error }) => error !== undefined)?.error).toMatch(cause);
  expect(flight?.progress.map(({ rank }) => rank)).toContain(1);
}

test("workerThreads, a rank whose heap is full is reported as dead", async ({ skip }) => {
  skip(await skipIfSlow("exhaust", "busy"), "runs on lavapipe");
  const full = { executor: "workerThreads", fault: "exhaust", when: "idle" } as const;
  const { report } = await runBroken(full, { nodeFlags: ["--max-old-space-size=192"] });
  expect(report.laterFailure).toMatch(/rank 1.*(memory|exit code)/);
});

test("workerThreads, stall while busy: the deadline names the rank, and the process ends", async ({
  skip,
}) => {
  skip(await skipIfSlow("stall", "busy"), "runs on lavapipe");
  const stalled = { executor: "workerThreads", fault: "stall", when: "busy" } as const;
  const { report, code, flights } = await runBroken(stalled, { collectiveTimeoutMs: 1_500 });
  expectFlightOf(flights, /rank 1 did not arrive within 1500 ms/);
  for (const failure of [...report.failures, report.laterFailure]) {
    expect(failure).toMatch(/CollectiveTimeoutError.*rank 1 did not arrive within 1500 ms/);
  }
  // Dawn may abort a process whose thread is stuck in a map: not 0 then, but after the cause was told.
  expect(code === 0 || code === null).toBe(true);
});
