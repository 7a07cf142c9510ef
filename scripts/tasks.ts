/** The development tasks behind the npm scripts. */
import { spawn } from "node:child_process";
import { ensureDependencies, repositoryFolder } from "../src/cli/launcher/dependencies.ts";
import { LaunchError, reportLaunchError } from "../src/cli/launcher/progress.js";
import { testTask } from "./testTask.ts";

/** A tool's script under node_modules, and its arguments. */
type Command = readonly [script: string, ...args: string[]];

const TYPES: Command = ["typescript/bin/tsc", "--noEmit"];
const LINT: Command = ["eslint/bin/eslint.js", "."];
const FORMAT: Command = ["prettier/bin/prettier.cjs", "--check", "."];
// -T: a cycle of types alone is harmless, since type stripping removes it.
const CYCLES: Command = [
  "dpdm/lib/bin/dpdm.js",
  ...["-T", "--no-tree", "--no-warning", "--no-progress", "--exit-code", "circular:1"],
  ...["src/**/*.ts", "models/**/*.ts"],
];
const DOCS: Command = ["typedoc/bin/typedoc"];
const STATIC_CHECKS: readonly Command[] = [TYPES, LINT, FORMAT, CYCLES, DOCS];

/** Runs a tool on this Node; its exit code. */
export async function runTool([script, ...args]: Command): Promise<number> {
  const child = spawn(process.execPath, [`node_modules/${script}`, ...args], {
    cwd: repositoryFolder,
    stdio: "inherit",
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code) => {
      resolve(code ?? 1);
    });
  });
}

/** Runs all of them even after a failure, so that one run shows everything; names what failed. */
async function runAll(commands: readonly Command[]): Promise<number> {
  const failed: string[] = [];
  for (const command of commands) {
    const name = command[0].split("/")[0] ?? "";
    const startMs = performance.now();
    const code = await runTool(command);
    if (code !== 0) failed.push(name);
    const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
    console.log(`${code === 0 ? "ok    " : "FAILED"} ${name} (${seconds} s)`);
  }
  if (failed.length > 0) console.log(`Failed checks: ${failed.join(", ")}`);
  return failed.length === 0 ? 0 : 1;
}

const TASKS: Readonly<Record<string, (args: readonly string[]) => Promise<number>>> = {
  types: () => runTool(TYPES),
  lint: (args) => runTool([...LINT, ...args]),
  format: () => runTool(["prettier/bin/prettier.cjs", "--write", "."]),
  cycles: () => runTool(CYCLES),
  docs: () => runTool(DOCS),
  static: () => runAll(STATIC_CHECKS),
  check: async () => Math.max(await runAll(STATIC_CHECKS), await testTask([])),
  test: (args) => testTask(args),
  "test:gpu": (args) => testTask(["--project=gpu:*", "--project=multi:*", ...args]),
  "test:full": (args) => testTask(args, { TANDEM_TEST_FULL: "1" }),
};

/** Runs the task that `argv` names, with the rest of it as arguments; sets the exit code. */
export async function runTask(argv: readonly string[]): Promise<void> {
  const [name = "", ...args] = argv;
  const task = Object.hasOwn(TASKS, name) ? TASKS[name] : undefined;
  try {
    if (task === undefined) {
      const known = Object.keys(TASKS).join(", ");
      throw new LaunchError(`task: expected one of ${known}, got "${name}"`);
    }
    await ensureDependencies(true);
    process.exitCode = await task(args);
  } catch (error) {
    reportLaunchError(error);
  }
}
