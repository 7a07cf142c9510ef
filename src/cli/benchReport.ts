/** A benchmark's report for people, and as JSON, CSV or Markdown. */
import type { BenchReport, Cell, Fields } from "../runtime/bench/report.ts";
import { layoutAsJson } from "./generateReport.ts";
import { formatKernels, kernelsAsJson } from "./kernelTable.ts";
import { shortPath } from "./loadProgress.ts";
import { type Column, formatFigure, formatTable } from "./table.ts";

/** What `--output` takes. */
export const REPORT_FORMATS = ["table", "json", "csv", "md"] as const;
export type ReportFormat = (typeof REPORT_FORMATS)[number];

/** The report in a format. A table ends with the line of JSON. */
export function formatReport(report: BenchReport, format: ReportFormat): string {
  const json = JSON.stringify(reportAsJson(report));
  switch (format) {
    case "json":
      return json;
    case "csv":
      return formatCsv(report);
    case "md":
      return formatMarkdown(report);
    case "table":
      return `${formatPlain(report)}\n\n${json}`;
  }
}

/** One object; every row holds its own GPU time by kernel where it was measured. */
export function reportAsJson(report: BenchReport): Record<string, unknown> {
  const { benchmark, model, settings, kernels, layout } = report;
  return {
    benchmark,
    model: shortPath(model),
    settings,
    ceilings: ceilingFields(report),
    results: report.rows.map((row, index) => {
      const times = kernels[index] ?? [];
      return times.length === 0 ? row : { ...row, kernels: kernelsAsJson(times) };
    }),
    ...(layout === null
      ? {}
      : { layout: { ...layoutAsJson(layout), model: shortPath(layout.model) } }),
  };
}

function ceilingFields({ ceilings }: BenchReport): Fields {
  return {
    read_gb_per_s: ceilings.readGBps,
    fma_tflops: ceilings.fmaTflops,
    matrix_tflops: ceilings.matrixTflops,
    dispatch_us: ceilings.dispatchUs,
    encode_us: ceilings.encodeUs,
    map_latency_us: ceilings.mapLatencyUs,
  };
}

/** Settings that say something: `tp 1, pp 1, …`. */
function describeSettings({ settings }: BenchReport): string {
  return Object.entries(settings)
    .filter(
      ([key, value]) => value !== null && value !== "" && key !== "device" && key !== "driver",
    )
    .map(([key, value]) => `${key} ${cellText(value)}`)
    .join(", ");
}

function describeCeilings({ ceilings }: BenchReport): string {
  const figure = formatFigure;
  const { matrixTflops } = ceilings;
  const matrix = matrixTflops === null ? "" : `, matrices ${figure(matrixTflops)} TFLOP/s`;
  return [
    `reads ${figure(ceilings.readGBps)} GB/s`,
    `FMA ${figure(ceilings.fmaTflops)} TFLOP/s${matrix}`,
    `a launch ${figure(ceilings.dispatchUs)} µs on the GPU and ${figure(ceilings.encodeUs)} µs on the host`,
    `a map ${figure(ceilings.mapLatencyUs)} µs`,
  ].join(", ");
}

function heading(report: BenchReport): readonly (readonly [string, string])[] {
  const { device, driver } = report.settings;
  const deviceText = [device, driver].filter((text) => text !== "" && text !== null).join(", ");
  return [
    [`bench ${report.benchmark}`, shortPath(report.model)],
    ["device", deviceText],
    ["ceilings", describeCeilings(report)],
    ["settings", describeSettings(report)],
  ];
}

/** Columns that at least one row fills; those of text stand left. */
function tableOf({ columns, rows }: BenchReport): { columns: Column[]; cells: string[][] } {
  const used = columns.filter(({ key }) => rows.some((row) => isFilled(row[key])));
  const isText = (key: string): boolean => rows.some((row) => typeof row[key] === "string");
  return {
    columns: used.map(({ key, title }) => ({ title, isFigure: !isText(key) })),
    cells: rows.map((row) => used.map(({ key }) => cellText(row[key]))),
  };
}

function isFilled(cell: Cell | undefined): boolean {
  return cell !== undefined && cell !== null;
}

/** Whole numbers as they are, others to three digits. */
function cellText(cell: Cell | undefined): string {
  if (cell === undefined || cell === null) return "-";
  if (typeof cell === "string") return cell;
  return Number.isInteger(cell) ? String(cell) : formatFigure(cell);
}

function formatPlain(report: BenchReport): string {
  const [title = ["", ""], ...lines] = heading(report);
  const { columns, cells } = tableOf(report);
  const parts = [
    formatTable([{ title: title[0] }, { title: title[1] }], lines),
    formatTable(columns, cells),
    ...report.kernels.flatMap((times, index) => {
      if (times.length === 0) return [];
      const name = report.kernels.length === 1 ? "" : `row ${index + 1}\n`;
      return [name + formatKernels(times)];
    }),
  ];
  return parts.join("\n\n");
}

/** A line a row; each repeats the setting and the ceilings, so that files of several runs can be joined. */
export function formatCsv(report: BenchReport): string {
  const common: Fields = {
    benchmark: report.benchmark,
    model: shortPath(report.model),
    ...report.settings,
    ...ceilingFields(report),
  };
  const keys = [...new Set(report.rows.flatMap((row) => Object.keys(row)))];
  const header = [...Object.keys(common), ...keys];
  const lines = report.rows.map((row) => [
    ...Object.values(common).map(csvCell),
    ...keys.map((key) => csvCell(row[key])),
  ]);
  return [header, ...lines].map((cells) => cells.join(",")).join("\n");
}

/** RFC 4180: quoted where it must be. */
function csvCell(cell: Cell | undefined): string {
  const text = cell === undefined || cell === null ? "" : String(cell);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function formatMarkdown(report: BenchReport): string {
  const { columns, cells } = tableOf(report);
  const line = (texts: readonly string[]): string =>
    `| ${texts.map((text) => text.replaceAll("|", "\\|")).join(" | ")} |`;
  return [
    ...heading(report).map(([name, text]) => `- ${name}: ${text}`),
    "",
    line(columns.map(({ title }) => title)),
    line(columns.map(({ isFigure }) => (isFigure === true ? "---:" : "---"))),
    ...cells.map(line),
  ].join("\n");
}
