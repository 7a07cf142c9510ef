/** `node run.ts` as a process of its own, in a folder that is not the project's. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { tmpdir } from "node:os";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";

const entry = fileURLToPath(new URL("../../../run.ts", import.meta.url));

export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  /** Without the warnings that Dawn itself prints. */
  readonly stderr: string;
}

/** A process that runs, and what it will have been. */
export interface RunningCli {
  readonly child: ChildProcessByStdio<null, Readable, Readable>;
  readonly result: Promise<CliResult>;
}

/** The last argument may add to the environment. */
export type CliArgs = string[] | [...string[], { readonly env: Readonly<Record<string, string>> }];

export function startCli(...given: CliArgs): RunningCli {
  const args = given.flatMap((arg) => (typeof arg === "string" ? [arg] : []));
  const [more] = given.flatMap((arg) => (typeof arg === "string" ? [] : [arg.env]));
  const env = { ...process.env, NODE_OPTIONS: "", TANDEM_LOG: "", ...more };
  const child = spawn(process.execPath, [entry, ...args], {
    cwd: tmpdir(),
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  const result = new Promise<CliResult>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      resolve({ code, stdout, stderr: stderr.replaceAll(/^Warning: .*\n/gm, "") });
    });
  });
  return { child, result };
}

/** Runs a command line to its end. */
export async function runCli(...args: CliArgs): Promise<CliResult> {
  return await startCli(...args).result;
}
