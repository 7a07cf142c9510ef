/**
 * All that a machine with several GPUs is to tell, in one run: devices, every pair of ranks, collectives,
 * decode and prefill by layout, a model that needs several, `verify`. After each step a line of steps.jsonl,
 * and summary.json, summary.md and scaling.svg over all its lines, earlier runs' too: a run that is
 * broken off loses nothing but the step under way.
 *
 *   node bench/severalGpus.ts --out bench/results/NAME [--steps REGEX] [--budget SECONDS] [--copies N]
 *
 * --steps runs only steps whose names match, `none` only sums up; --budget ends the run, with the steps
 * left out named (default 1,140); --copies runs the short form over N copies of lavapipe.
 */
import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { parseArgs } from "node:util";
import { copyLavapipe } from "../scripts/driverCopies.ts";
import { type Machine, planSteps, type Step } from "./severalGpusPlan.ts";
import { addStep, summarise } from "./severalGpusSummary.ts";

const { values } = parseArgs({
  options: {
    out: { type: "string" },
    steps: { type: "string", default: "." },
    budget: { type: "string", default: "1140" },
    copies: { type: "string" },
  },
});
if (values.out === undefined) throw new Error("--out FOLDER is missing");
const folder = values.out;
const deadline = Date.now() + 1000 * Number(values.budget);

/** What `run.ts` printed and how it ended. */
interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function runTandem(args: readonly string[], timeoutMs: number): Promise<Ended> {
  const child = spawn(process.execPath, ["run.ts", ...args], {
    timeout: Math.max(1000, timeoutMs),
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      const why = signal === null ? "" : `\nended by ${signal}, after the time that was left`;
      resolve({ code: code ?? 1, stdout, stderr: stderr + why });
    });
  });
}

function lastLineAsJson(text: string): unknown {
  try {
    return JSON.parse(text.trim().split("\n").at(-1) ?? "");
  } catch {
    return null;
  }
}

/** Runs a step and keeps what it gave, whether it worked or not. */
async function runStep({ name, args }: Step): Promise<unknown> {
  const begin = performance.now();
  const { code, stdout, stderr } = await runTandem(args, deadline - Date.now());
  const seconds = Number(((performance.now() - begin) / 1000).toFixed(1));
  const result = lastLineAsJson(stdout);
  const ok = code === 0 && result !== null;
  const failure = ok ? {} : { code, stderr: stderr.slice(-2000), stdout: stdout.slice(-500) };
  addStep(folder, { name, args, seconds, ok, ...failure, result });
  summarise(folder);
  const why = ok ? "" : ` FAILED: ${stderr.trim().split("\n").at(-1) ?? ""}`;
  console.log(`${name}: ${seconds} s${why}`);
  return result;
}

interface ListedDevice {
  readonly name: string;
  readonly type: string;
  readonly virtual: boolean;
  readonly memory_bytes: number | null;
}

/** Devices of the first one's make, each a GPU of its own. */
async function readMachine(): Promise<Machine> {
  const listed = (await runStep({ name: "devices", args: ["devices", "--json"] })) as
    ListedDevice[] | null;
  const first = listed?.[0];
  const own = (listed ?? []).filter(({ name, virtual }) => name === first?.name && !virtual);
  if (first === undefined) throw new Error("no devices: see devices.json");
  const memories = own.map(({ memory_bytes }) => memory_bytes ?? 0);
  const memoryBytes = Math.min(...memories) || null;
  return { numDevices: own.length, memoryBytes, isSoftware: first.type === "software" };
}

mkdirSync(folder, { recursive: true });
const copies = values.copies === undefined ? undefined : copyLavapipe(Number(values.copies));
if (copies !== undefined) process.env["VK_ICD_FILENAMES"] = copies.manifests.join(":");
try {
  if (values.steps !== "none") {
    const wanted = new RegExp(values.steps);
    const steps = planSteps(await readMachine()).filter(({ name }) => name !== "devices");
    for (const step of steps.filter(({ name }) => wanted.test(name))) {
      if (Date.now() < deadline) await runStep(step);
      else console.log(`${step.name}: not run, the time is up`);
    }
  }
  console.log(summarise(folder));
} finally {
  copies?.remove();
}
