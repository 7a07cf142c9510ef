/** One page over the step files of severalGpus.ts: each figure beside its bound. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { plotScaling, type ScalingPoint } from "./scalingPlot.ts";

type Figures = Readonly<Record<string, number | string | null>>;

/** What the steps write; only what is read here. */
interface StepFile {
  readonly name: string;
  readonly seconds: number;
  readonly ok: boolean;
  readonly stderr?: string;
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

const SUMMARY = "summary.json";

function readSteps(folder: string): StepFile[] {
  return readdirSync(folder)
    .filter((file) => file.endsWith(".json") && file !== SUMMARY)
    .sort()
    .map((file) => JSON.parse(readFileSync(join(folder, file), "utf8")) as StepFile);
}

function isBench(result: unknown): result is BenchResult {
  return typeof result === "object" && result !== null && "benchmark" in result;
}

/** The figures of `bench decode` and `bench prefill`. */
export function speedRows(result: BenchResult): SpeedRow[] {
  const { benchmark, model, settings, ceilings } = result;
  const [tp, pp] = [Number(settings["tp"]), Number(settings["pp"])];
  return result.results.map((row) => {
    const batch = row["batch_size"] ?? null;
    const workload = batch === null ? `${row["prompt_len"] ?? "?"} tokens` : `batch ${batch}`;
    return {
      panel: `${benchmark}, ${workload}`,
      line: pp > 1 ? "pp" : "tp",
      numDevices: Number(settings["num_devices"]),
      tokPerS: Number(row["tok_per_s"]),
      boundTokPerS: Number(row["bound_tok_per_s"]),
      model: basename(model),
      layout: pp > 1 ? `pp ${pp}` : `tp ${tp}`,
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

/** The copy rate between devices and its latency, over all pairs: what a collective is made of. */
function setupLines(steps: readonly StepFile[]): string[] {
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

/** Writes summary.json, summary.md and scaling.svg; returns summary.md. */
export function summarise(folder: string): string {
  const steps = readSteps(folder);
  const rows = steps.flatMap(({ ok, result }) => (ok && isBench(result) ? speedRows(result) : []));
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
    "",
    ...setupLines(steps),
    ...steps.filter(({ ok }) => ok).map(({ name, seconds }) => `${name}: ok, ${seconds} s`),
    ...failed.map(
      ({ name, stderr }) => `${name}: failed: ${stderr?.trim().split("\n").at(-1) ?? ""}`,
    ),
    "",
  ].join("\n");
  const states = steps.map(({ name, ok, seconds }) => ({ name, ok, seconds }));
  writeFileSync(
    join(folder, SUMMARY),
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
