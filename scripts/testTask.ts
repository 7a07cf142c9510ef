/** `npm test`: finds the adapters of this machine, runs vitest on them, prints the totals. */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { repositoryFolder } from "../src/cli/launcher/dependencies.ts";
import {
  fetchSwiftShader,
  hasSoftwareGpu,
  SWIFTSHADER_DRIVER,
  vulkanEnvironment,
} from "../src/cli/launcher/softwareGpu.ts";
import { installedDrivers } from "../src/common/vulkanDriversNode.ts";
import { SOFTWARE_ADAPTERS, selectAdapters, TEST_ADAPTERS_VARIABLE } from "./testAdapters.ts";
import { readTotals, totalsLine } from "./testTotals.ts";

type Environment = Readonly<Record<string, string | undefined>>;

interface Output {
  readonly code: number;
  readonly stdout: string;
}

/** Runs a script on this Node with its stdout collected or shown. */
function runNode(args: readonly string[], env: Environment, show: boolean): Promise<Output> {
  const child = spawn(process.execPath, args, {
    cwd: repositoryFolder,
    env,
    stdio: ["inherit", show ? "inherit" : "pipe", show ? "inherit" : "ignore"],
  });
  let stdout = "";
  child.stdout?.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      resolve({ code: code ?? 1, stdout });
    });
  });
}

/** Both software drivers side by side where Linux has them; elsewhere the environment as it is. */
async function driverEnvironment(): Promise<Environment> {
  const env = { ...process.env, XDG_RUNTIME_DIR: process.env["XDG_RUNTIME_DIR"] ?? tmpdir() };
  if (!hasSoftwareGpu(process.platform, process.arch)) return env;
  const folder = await fetchSwiftShader();
  const lavapipe = installedDrivers(process.env).filter((file) =>
    SOFTWARE_ADAPTERS.llvmpipe.test(file),
  );
  const drivers = [...lavapipe, join(folder, SWIFTSHADER_DRIVER)];
  return { ...env, ...vulkanEnvironment(env, drivers, folder) };
}

/** The environment of a test run, with the adapters that answered in it. */
async function testEnvironment(): Promise<Environment> {
  // Named by the user, as in TANDEM_TEST_ADAPTERS=NVIDIA: this machine's own drivers.
  if (process.env[TEST_ADAPTERS_VARIABLE] !== undefined) return process.env;
  const env = await driverEnvironment();
  const probe = await runNode(["scripts/listAdapters.ts"], env, false);
  const names = probe.code === 0 ? (JSON.parse(probe.stdout) as string[]) : [];
  const { adapters, skipped } = selectAdapters(names);
  console.log(`GPU tests run on: ${adapters.join(", ") || "nothing"}`);
  for (const reason of skipped) console.log(`Skipped: ${reason}`);
  return { ...env, [TEST_ADAPTERS_VARIABLE]: adapters.join(",") };
}

/** Runs vitest with these arguments; its exit code. */
export async function testTask(args: readonly string[], extra: Environment = {}): Promise<number> {
  const env = { ...(await testEnvironment()), ...extra };
  const folder = mkdtempSync(join(tmpdir(), "tandem-test-"));
  const report = join(folder, "report.json");
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  try {
    const vitest = ["node_modules/vitest/vitest.mjs", "run", ...reporters, ...args];
    const { code } = await runNode(vitest, env, true);
    console.log(
      totalsLine(
        readTotals(() => readFileSync(report, "utf8")),
        code,
      ),
    );
    return code;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
