import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { testDeviceIndex } from "../support/gpu.ts";
import { readTrace } from "../support/readTrace.ts";
import { runCli } from "./support/spawnCli.ts";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "tandem-profile-"));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

test("generate --profile leaves one trace, and says where a cold start went", async () => {
  const path = join(folder, "trace.json");
  const device = ["--devices", String(await testDeviceIndex())];
  const flags = ["--tp", "2", "--max-tokens", "3", "--profile", path, ...device];
  const { code, stderr } = await runCli("Once upon a time", ...flags);
  expect(code).toBe(0);
  expect(stderr).toMatch(/first token [\d,.]+ ms after the process's start: Node and modules \d/);
  expect(readdirSync(folder)).toEqual(["trace.json"]);
  const trace = readTrace(readFileSync(path, "utf8"));
  expect(trace.processes).toEqual(["engine", "rank 0", "rank 1"]);
  expect(trace.of("rank 1", "steps")).toHaveLength(3);
  expect(trace.of("engine", "host").map(({ name }) => name)).toContain("schedule");
});

test("a file that cannot be written is refused before anything is loaded", async () => {
  const inNoFolder = join(folder, "none", "trace.json");
  const { code, stderr } = await runCli("Once", "--profile", inNoFolder);
  expect(code).toBe(2);
  expect(stderr).toMatch(
    /^error: --profile .*: expected a file in a folder that can be written to/,
  );
  const asFolder = await runCli("Once", "--profile", folder);
  expect(asFolder.stderr).toMatch(/expected a file, got a folder/);
});

test("overlap is refused where there is nothing to hide", async () => {
  const flags = ["--tp", "1", "--enable-dual-batch-overlap"];
  const { code, stderr } = await runCli("Once", ...flags);
  expect(code).toBe(2);
  expect(stderr).toMatch(
    /error: --enable-dual-batch-overlap: expected --tensor-parallel-size of 2/,
  );
});
