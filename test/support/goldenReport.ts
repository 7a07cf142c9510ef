/** Results of the full golden matrix, one pair of files an adapter: runs on two adapters never meet. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** One fixture on one layout. */
export interface GoldenResult {
  readonly fixture: string;
  readonly tpSize: number;
  readonly ppSize: number;
  readonly executor: string;
  /** Largest error of a logit as a part of the logits' standard deviation. */
  readonly maxError: number;
  readonly numGreedyTokens: number;
  readonly elapsedMs: number;
}

export interface GoldenReport {
  readonly adapter: string;
  readonly tolerance: number;
  readonly results: readonly GoldenResult[];
}

const FOLDER = new URL("../../bench/results", import.meta.url).pathname;

/** Writes golden-matrix.<adapter>.json and .md under bench/results. */
export function writeGoldenReport(report: GoldenReport): void {
  mkdirSync(FOLDER, { recursive: true });
  const path = join(FOLDER, `golden-matrix.${report.adapter.toLowerCase()}`);
  const versions = { node: process.version, platform: `${process.platform} ${process.arch}` };
  writeFileSync(`${path}.json`, `${JSON.stringify({ ...versions, ...report }, null, 2)}\n`);
  writeFileSync(`${path}.md`, goldenMarkdown(report));
}

/** A table an executor: a row a layout, a column a fixture, the largest error in each cell. */
export function goldenMarkdown({ adapter, tolerance, results }: GoldenReport): string {
  const executors = [...new Set(results.map(({ executor }) => executor))];
  const worst = Math.max(...results.map(({ maxError }) => maxError));
  const tokens = results.reduce((sum, { numGreedyTokens }) => sum + numGreedyTokens, 0);
  return [
    `# Golden matrix on ${adapter}`,
    "",
    `Largest error of any logit against Hugging Face transformers, in standard deviations of the logits; KV cache and`,
    `wire f32. ${results.length} runs, worst ${worst.toExponential(1)}, allowed ${tolerance.toExponential(0)}; all ${tokens} greedy tokens are equal.`,
    `Made by \`npm run test:full\`.`,
    ...executors.flatMap((executor) => [
      "",
      `## ${executor}`,
      "",
      ...executorTable(results.filter((result) => result.executor === executor)),
    ]),
    "",
  ].join("\n");
}

function executorTable(results: readonly GoldenResult[]): string[] {
  const fixtures = [...new Set(results.map(({ fixture }) => fixture))];
  const layouts = [...new Set(results.map(nameOf))];
  const cell = (layout: string, fixture: string): string => {
    const found = results.find((one) => nameOf(one) === layout && one.fixture === fixture);
    return found === undefined ? "" : found.maxError.toExponential(1);
  };
  const row = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [
    row(["layout", ...fixtures]),
    row(["---", ...fixtures.map(() => "---")]),
    ...layouts.map((layout) => row([layout, ...fixtures.map((fixture) => cell(layout, fixture))])),
  ];
}

function nameOf({ tpSize, ppSize }: GoldenResult): string {
  return `tp ${tpSize} x pp ${ppSize}`;
}
