/** Tables and figures in plain text. */

/** A column: its heading, and whether its cells are figures, which line up on the right. */
export interface Column {
  readonly title: string;
  readonly isFigure?: boolean;
}

/** A heading and rows in columns as wide as their widest cell; no line ends in spaces. */
export function formatTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
): string {
  const titles = columns.map(({ title }) => title);
  const lines = [titles, ...rows];
  const widths = columns.map((_, at) => Math.max(...lines.map((cells) => cells[at]?.length ?? 0)));
  const pad = (cell: string, at: number): string => {
    const width = widths[at] ?? 0;
    return columns[at]?.isFigure === true ? cell.padStart(width) : cell.padEnd(width);
  };
  return lines.map((cells) => cells.map(pad).join("  ").trimEnd()).join("\n");
}

/** Three significant digits, thousands grouped: `0.0123`, `4.57`, `1,230`. */
export function formatFigure(value: number): string {
  return value.toLocaleString("en-US", { maximumSignificantDigits: 3 });
}

/** Bytes in MB (1e6). */
export function formatMB(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}

/** Bytes in the unit of 1024 that leaves a short figure: `128 MiB`, `48 KiB`. */
export function formatBinaryBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  return `${formatFigure(bytes / 2 ** (10 * power))} ${units[power] ?? ""}`;
}

/** begin to end (not included) as `0-5`; one as `3`; none as `-`. */
export function formatRange(
  range: { readonly begin: number; readonly end: number } | undefined,
): string {
  if (range === undefined || range.end <= range.begin) return "-";
  const last = range.end - 1;
  return last === range.begin ? String(last) : `${range.begin}-${last}`;
}
