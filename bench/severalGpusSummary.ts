/** One page over the steps of severalGpus.ts: each figure beside its bound. */
import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { CollectiveRow } from "../src/runtime/collectiveBench/benchPlan.ts";
import { plotScaling, type ScalingPoint } from "./scalingPlot.ts";

type Figures = Readonly<Record<string, number | string | null>>;

/** What a step gave. */
export interface StepResult {
  readonly name: string;
  /** After `node run.ts`. */
  readonly args: readonly string[];
  readonly seconds: number;
  readonly ok: boolean;
  /** Of a step that failed. */
  readonly code?: number;
  readonly stderr?: string;
  readonly stdout?: string;
  /** The last line that it printed, which is JSON. */
  readonly result: unknown;
}

interface BenchResult {
  readonly benchmark: string;
  readonly model: string;
  readonly settings: Figures;
  readonly ceilings: Figures;
  readonly results: readonly Figures[];
}

interface SetupResult {
  readonly pairs: readonly { readonly latency_us: number; readonly bandwidth_gb_per_s: number }[];
}

/** A line of the table of speeds. */
interface SpeedRow extends ScalingPoint {
  readonly model: string;
  readonly layout: string;
  readonly collectiveMs: number | null;
  readonly readGBps: number;
  readonly mapLatencyUs: number;
}

const STEPS = "steps.jsonl";
/** Sums that travel as something else than f32. */
const WIRE_FLAG = "--collective-wire-dtype";

/** Appends a step to the folder's. */
export function addStep(folder: string, step: StepResult): void {
  appendFileSync(join(folder, STEPS), `${JSON.stringify(step)}\n`);
}

/** By name; of a step that ran again the last counts. */
function readSteps(folder: string): StepResult[] {
  const path = join(folder, STEPS);
  const lines = existsSync(path) ? readFileSync(path, "utf8").split("\n").filter(Boolean) : [];
  const steps = lines.map((line) => JSON.parse(line) as StepResult);
  const byName = new Map(steps.map((step) => [step.name, step]));
  return [...byName.values()].sort((a, b) => a.name.localeCompare(b.name));
}

function isBench(result: unknown): result is BenchResult {
  return typeof result === "object" && result !== null && "benchmark" in result;
}

/** The figures of `bench decode` and `bench prefill`. */
export function speedRows(result: BenchResult, args: readonly string[] = []): SpeedRow[] {
  const { benchmark, model, settings, ceilings } = result;
  const [tp, pp] = [Number(settings["tp"]), Number(settings["pp"])];
  const wireAt = args.indexOf(WIRE_FLAG);
  const wire = wireAt < 0 ? "" : `, ${args[wireAt + 1] ?? ""} sums`;
  return result.results.map((row) => {
    const batch = row["batch_size"] ?? null;
    const workload = batch === null ? `${row["prompt_len"] ?? "?"} tokens` : `batch ${batch}`;
    return {
      panel: `${benchmark}, ${workload}`,
      line: `${pp > 1 ? "pp" : "tp"}${wire}`,
      numDevices: Number(settings["num_devices"]),
      tokPerS: Number(row["tok_per_s"]),
      boundTokPerS: Number(row["bound_tok_per_s"]),
      model: basename(model),
      layout: `${pp > 1 ? `pp ${pp}` : `tp ${tp}`}${wire}`,
      collectiveMs: (row["collective_ms_per_step"] ?? null) as number | null,
      readGBps: Number(ceilings["read_gb_per_s"]),
      mapLatencyUs: Number(ceilings["map_latency_us"]),
    };
  });
}

function figure(value: number | null): string {
  return value === null ? "-" : value.toLocaleString("en-US", { maximumSignificantDigits: 3 });
}

function speedTable(rows: readonly SpeedRow[]): string[] {
  return [
    "| what | model | layout | devices | tok/s | bound | of it | collectives, ms a step | reads, GB/s a device | map, µs |",
    "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ...rows.map((row) => {
      const share = `${Math.round((100 * row.tokPerS) / row.boundTokPerS)} %`;
      const cells = [row.panel, row.model, row.layout, row.numDevices, figure(row.tokPerS)];
      const bounds = [figure(row.boundTokPerS), share, figure(row.collectiveMs)];
      return `| ${[...cells, ...bounds, figure(row.readGBps), figure(row.mapLatencyUs)].join(" | ")} |`;
    }),
  ];
}

/** Of `bench collectives`, in its own order. */
function collectiveTable(steps: readonly StepResult[]): string[] {
  const rows = steps
    .filter(({ name, ok }) => ok && name.startsWith("collectives"))
    .flatMap(({ result }) => result as readonly CollectiveRow[]);
  if (rows.length === 0) return [];
  return [
    "",
    "| collective | ranks | bytes | µs | busbw, GB/s | bound | of it |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ...rows.map((row) => {
      const share = `${Math.round((100 * row.busbwGBps) / row.boundGBps)} %`;
      const size = row.sizeBytes.toLocaleString("en-US");
      const speeds = [row.timeUs, row.busbwGBps, row.boundGBps].map(figure);
      return `| ${[`${row.op} ${row.algorithm}`, row.ranks, size, ...speeds, share].join(" | ")} |`;
    }),
  ];
}

/** The copy rate between devices and its latency, over all pairs: what a collective is made of. */
function setupLines(steps: readonly StepResult[]): string[] {
  return steps
    .filter(({ name, ok }) => ok && name.startsWith("verify-setup"))
    .map(({ name, result }) => {
      const { pairs } = result as SetupResult;
      const span = (values: readonly number[]): string =>
        `${figure(Math.min(...values))} to ${figure(Math.max(...values))}`;
      const rates = span(pairs.map(({ bandwidth_gb_per_s }) => bandwidth_gb_per_s));
      const latencies = span(pairs.map(({ latency_us }) => latency_us));
      return `${name}: device to device ${rates} GB/s, ${latencies} µs, over ${pairs.length} pairs`;
    });
}

/** What it said last; `verify` says what diverges in its result. */
function causeOf({ stderr = "", result }: StepResult): string {
  const { first } = (result ?? {}) as { readonly first?: { readonly message: string } };
  return first?.message ?? stderr.trim().split("\n").at(-1) ?? "";
}

/** Writes summary.json, summary.md and scaling.svg; returns summary.md. */
export function summarise(folder: string): string {
  const steps = readSteps(folder);
  const rows = steps.flatMap(({ ok, args, result }) =>
    ok && isBench(result) ? speedRows(result, args) : [],
  );
  const sorted = rows.sort(
    (a, b) =>
      a.model.localeCompare(b.model) ||
      a.panel.localeCompare(b.panel) ||
      b.line.localeCompare(a.line) ||
      a.numDevices - b.numDevices,
  );
  const failed = steps.filter(({ ok }) => !ok);
  const text = [
    ...speedTable(sorted),
    ...collectiveTable(steps),
    "",
    ...setupLines(steps),
    ...steps.filter(({ ok }) => ok).map(({ name, seconds }) => `${name}: ok, ${seconds} s`),
    ...failed.map((step) => `${step.name}: failed: ${causeOf(step)}`),
    "",
  ].join("\n");
  const states = steps.map(({ name, ok, seconds }) => ({ name, ok, seconds }));
  writeFileSync(
    join(folder, "summary.json"),
    `${JSON.stringify({ steps: states, speeds: sorted }, undefined, 1)}\n`,
  );
  writeFileSync(join(folder, "summary.md"), text);
  const model = mostFrequent(sorted.map((row) => row.model));
  const points = sorted.filter((row) => row.model === model);
  writeFileSync(join(folder, "scaling.svg"), plotScaling(`${model}: speed by devices`, points));
  return text;
}

/** The model that was run on several layouts. */
function mostFrequent(names: readonly string[]): string {
  const groups = [...Map.groupBy(names, (name) => name)].sort(
    ([, a], [, b]) => b.length - a.length,
  );
  return groups[0]?.[0] ?? "nothing";
}
