/** Results of the full golden matrix: files of their own for each adapter and executor, so that runs never meet. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** One fixture on one layout. */
export interface GoldenResult {
  readonly fixture: string;
  readonly tpSize: number;
  readonly ppSize: number;
  /** Largest error of a logit as a part of the logits' standard deviation. */
  readonly maxError: number;
  readonly numGreedyTokens: number;
  readonly elapsedMs: number;
}

export interface GoldenReport {
  readonly adapter: string;
  readonly executor: string;
  readonly tolerance: number;
  readonly results: readonly GoldenResult[];
}

const FOLDER = new URL("../../bench/results", import.meta.url).pathname;

/** Writes golden-matrix.<adapter>.<executor>.json and .md under bench/results. */
export function writeGoldenReport(report: GoldenReport): void {
  mkdirSync(FOLDER, { recursive: true });
  const { adapter, executor } = report;
  const path = join(FOLDER, `golden-matrix.${adapter.toLowerCase()}.${executor}`);
  const versions = { node: process.version, platform: `${process.platform} ${process.arch}` };
  writeFileSync(`${path}.json`, `${JSON.stringify({ ...versions, ...report }, null, 2)}\n`);
  writeFileSync(`${path}.md`, goldenMarkdown(report));
}

/** A row a layout, a column a fixture, the largest error in each cell. */
export function goldenMarkdown({ adapter, executor, tolerance, results }: GoldenReport): string {
  const worst = Math.max(...results.map(({ maxError }) => maxError)).toExponential(1);
  const tokens = results.reduce((sum, { numGreedyTokens }) => sum + numGreedyTokens, 0);
  return [
    `# Golden matrix: ${executor} on ${adapter}`,
    "",
    "Largest error of any logit against Hugging Face transformers, in standard deviations of the logits; KV cache and",
    `wire f32. ${results.length} runs, worst ${worst}, allowed ${tolerance.toExponential(0)}; all ${tokens} greedy tokens are equal.`,
    "Made by `npm run test:full`.",
    "",
    ...table(results),
    "",
  ].join("\n");
}

function table(results: readonly GoldenResult[]): string[] {
  const fixtures = [...new Set(results.map(({ fixture }) => fixture))];
  const layouts = [...new Set(results.map(nameOf))];
  const cell = (layout: string, fixture: string): string => {
    const found = results.find((one) => nameOf(one) === layout && one.fixture === fixture);
    return found === undefined ? "" : found.maxError.toExponential(1);
  };
  const rows = [
    ["layout", ...fixtures],
    ...layouts.map((layout) => [layout, ...fixtures.map((fixture) => cell(layout, fixture))]),
  ];
  // As Prettier lays out a table: the first column to the left, figures to the right.
  const widths = ["layout", ...fixtures].map((_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  const rule = widths.map((width, column) =>
    column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`,
  );
  const padded = rows.map((row) =>
    widths.map((width, column) => {
      const text = row[column] ?? "";
      return column === 0 ? text.padEnd(width) : text.padStart(width);
    }),
  );
  const [header = [], ...body] = padded;
  return [header, rule, ...body].map((cells) => `| ${cells.join(" | ")} |`);
}

function nameOf({ tpSize, ppSize }: GoldenResult): string {
  return `tp ${tpSize} x pp ${ppSize}`;
}
