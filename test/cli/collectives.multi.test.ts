/** `bench collectives`, `verify-setup` and the tools against hangs, as a user starts them. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FlightReport } from "../../src/collectives/watchdog/flightDumpNode.ts";
import { testDeviceIndex } from "../support/gpu.ts";
import { runCli, startCli } from "./support/spawnCli.ts";

let onDevice: string[] = [];
let folder = "";
beforeAll(async () => {
  onDevice = ["--devices", String(await testDeviceIndex())];
  folder = mkdtempSync(join(tmpdir(), "tandem-cli-"));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

interface Row {
  readonly [name: string]: unknown;
  readonly busbwGBps: number;
  readonly algbwGBps: number;
}

describe("bench collectives", () => {
  test("--json: the last line is an array of rows; --plot writes an SVG; a shared adapter is said", async () => {
    const plot = join(folder, "plot.svg");
    const { code, stdout, stderr } = await runCli(
      ...["bench", "collectives", "--json", "--ranks", "2,3", "--sizes", "64,16K"],
      ...["--ops", "all_reduce,all_gather", "--algorithms", "oneShot,ring", "--budget", "2"],
      ...["--plot", plot, ...onDevice],
    );
    expect(code).toBe(0);
    const rows = JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "") as Row[];
    // host: 4 ways x 2 sizes; device: all_gather goes one way
    expect(rows).toHaveLength(2 * (8 + 6));
    for (const row of rows) {
      expect(row).toMatchObject({ transport: "sharedMemory", wrong: 0 });
      for (const name of ["ranks", "sizeBytes", "timeUs", "algbwGBps", "busbwGBps", "boundGBps"]) {
        expect(row[name], name).toBeGreaterThan(0);
      }
    }
    const [first] = rows;
    expect(first).toMatchObject({
      op: "all_reduce",
      algorithm: "oneShot",
      ranks: 2,
      sizeBytes: 64,
    });
    expect(first?.busbwGBps).toBeCloseTo(first?.algbwGBps ?? 0, 9); // 2 (n-1)/n of 2 ranks
    expect(stderr).toMatch(/ranks 0, 1 share one adapter/);
    expect(stderr).toMatch(/copy [\d.]+ GB\/s each/);
    expect(readFileSync(plot, "utf8")).toContain("3 ranks, device memory, sharedMemory");
  });

  test("a table for people, over tcp and in one thread too", async () => {
    const { code, stdout } = await runCli(
      ...["bench", "collectives", "--ranks", "2", "--sizes", "1024", "--ops", "broadcast,barrier"],
      ...["--memory", "host", "--transport", "tcp,loopback", "--budget", "2"],
    );
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /size +count +type +redop +time µs +algbw +busbw +bound +of bound +#wrong/,
    );
    expect(stdout).toMatch(/broadcast oneShot +1024 +256 +f32 +none/);
    expect(stdout).toMatch(/barrier oneShot +0 +0/);
    expect(stdout).toContain("2 ranks, host memory, loopback");
  });

  test("--breakdown shows the stages beside those of one rank alone", async () => {
    const { code, stdout } = await runCli(
      ...["bench", "collectives", "--ranks", "2", "--sizes", "64", "--ops", "barrier"],
      ...["--memory", "device", "--breakdown", ...onDevice],
    );
    expect(code).toBe(0);
    for (const stage of ["submit", "map", "copy", "wait", "upload", "total"]) {
      expect(stdout).toMatch(new RegExp(`all_reduce +${stage} +[\\d.]+ +[\\d.]+`));
    }
    expect(stdout).toMatch(/one rank alone +total +[\d.]+ +[\d.]+/);
  });

  test.each([
    [["--ranks", "1"], "--ranks: expected numbers from 2 to 32, got 1"],
    [
      ["--sizes", "7"],
      '--sizes: expected bytes between commas, multiples of 4 below 4G, as 16384,1M, got "7"',
    ],
    [["--ops", "reduce"], "--ops: expected one of all_reduce"],
  ])("%j is refused", async (flags, message) => {
    const { code, stderr } = await runCli("bench", "collectives", ...flags);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
  });
});

describe("verify-setup", () => {
  test("a matrix of every ordered pair, and checked sums", async () => {
    const { code, stdout } = await runCli("verify-setup", "--tp", "3", ...onDevice);
    expect(code).toBe(0);
    expect(stdout).toMatch(/latency µs +to 0 +to 1 +to 2\nfrom 0 +- +[\d.,]+ +[\d.,]+/);
    expect(stdout).toMatch(/bandwidth GB\/s/);
    expect(stdout).toMatch(/share its adapter as virtual devices/);
    expect(stdout).toMatch(/ok: 3 ranks reach each other; sums of 64, 16384, 4194304 bytes/);
  });

  test("--json in one thread", async () => {
    const flags = ["--executor", "in-process", "--json", ...onDevice];
    const { code, stdout } = await runCli("verify-setup", ...flags);
    expect(code).toBe(0);
    const report = JSON.parse(stdout) as { readonly pairs: readonly unknown[] };
    expect(report).toMatchObject({ ok: true, ranks: 2, shared_adapter: true, failure: null });
    expect(report.pairs).toHaveLength(2);
  });
});

describe("what happens in a run", () => {
  test.each(["worker-threads", "in-process"])(
    "%s: TANDEM_DEBUG says what was chosen and why, of the subsystems asked for",
    async (executor) => {
      const env = { TANDEM_DEBUG: "info", TANDEM_DEBUG_SUBSYS: "TUNING" };
      const flags = ["--collective-algorithm", "ring", "--collective-wire-dtype", "f16"];
      const { code, stderr } = await runCli(
        ...["Once", "--max-tokens", "2", "--executor", executor, ...flags, ...onDevice],
        { env },
      );
      expect(code).toBe(0);
      expect(stderr).toMatch(
        /tandem: rank 1 INFO TUNING allReduce of 1024 bytes in group tp \(2 ranks, \w+\): ring, f16: asked for/,
      );
      expect(stderr).not.toContain(" INIT ");
    },
  );

  test.each(["worker-threads", "in-process"])(
    "%s: SIGUSR2 makes every rank write its last operations, and the run goes on",
    async (executor) => {
      const directory = join(folder, executor);
      const env = { TANDEM_FLIGHT_RECORDER_DIR: directory };
      const flags = ["--ignore-eos", "--max-tokens", "1000", "--executor", executor, ...onDevice];
      const { child, result } = startCli("Once upon a time", ...flags, { env });
      await new Promise((resolve) => child.stdout.once("data", resolve)); // tokens come
      child.kill("SIGUSR2");
      const reports = (): string[] => {
        try {
          return readdirSync(directory).filter((name) => name.endsWith(".json"));
        } catch {
          return [];
        }
      };
      await expect.poll(() => reports().length, { timeout: 20_000 }).toBe(2);
      child.kill("SIGINT");
      const { stderr } = await result;
      for (const name of reports()) {
        expect(stderr).toContain(join(directory, name));
        const report = JSON.parse(readFileSync(join(directory, name), "utf8")) as FlightReport;
        expect(report.reason).toBe("asked for by SIGUSR2");
        expect(report.entries.length).toBeGreaterThan(5);
      }
      expect(reports()).toHaveLength(2); // being stopped is no failure
    },
  );
});
