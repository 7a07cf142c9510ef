/** busbw against size as an SVG, both logarithmic: one panel a world, one line an operation and algorithm. */
import type { CollectiveRow } from "./benchPlan.ts";

const [WIDTH, HEIGHT] = [460, 320]; // of a panel
const PANELS_A_ROW = 3;
const MARGIN = { left: 60, right: 150, top: 34, bottom: 40 };
const COLORS = ["#0b5cad", "#b35900", "#b00020", "#2e7d32", "#6a1b9a", "#00838f", "#5d4037"];
const DASHES = ["", "6 3", "2 3"];
const BOUND_COLOR = "#888";

/** Rows without bytes (barriers) are left out. */
export function plotCollectives(title: string, rows: readonly CollectiveRow[]): string {
  const worlds = Map.groupBy(
    rows.filter(({ sizeBytes }) => sizeBytes > 0),
    ({ ranks, memory, transport }) => `${ranks} ranks, ${memory} memory, ${transport}`,
  );
  const panels = [...worlds].map(([name, points], index) => {
    const [column, line] = [index % PANELS_A_ROW, Math.floor(index / PANELS_A_ROW)];
    return panel(name, points, column * WIDTH, line * HEIGHT);
  });
  const width = WIDTH * Math.min(PANELS_A_ROW, Math.max(1, panels.length));
  const height = HEIGHT * Math.ceil(Math.max(1, panels.length) / PANELS_A_ROW) + 24;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" font-family="sans-serif" font-size="11">`,
    `<rect width="100%" height="100%" fill="white"/>`,
    `<text x="${MARGIN.left}" y="16" font-size="14">${escape(title)}</text>`,
    `<g transform="translate(0 20)">${panels.join("\n")}</g>`,
    `</svg>\n`,
  ].join("\n");
}

/** Powers of ten around the values. */
interface Axis {
  readonly low: number;
  readonly high: number;
}

function panel(name: string, rows: readonly CollectiveRow[], left: number, top: number): string {
  const sizes = axisOf(rows.map(({ sizeBytes }) => sizeBytes));
  const speeds = axisOf(rows.flatMap(({ busbwGBps, boundGBps }) => [busbwGBps, boundGBps]));
  const inner = {
    width: WIDTH - MARGIN.left - MARGIN.right,
    height: HEIGHT - MARGIN.top - MARGIN.bottom,
  };
  const place = ({ low, high }: Axis, value: number): number =>
    (Math.log10(Math.max(value, 10 ** low)) - low) / Math.max(1, high - low);
  const at = (size: number, speed: number): string => {
    const x = MARGIN.left + inner.width * place(sizes, size);
    const y = MARGIN.top + inner.height * (1 - place(speeds, speed));
    return `${x.toFixed(1)},${y.toFixed(1)}`;
  };
  const lines = [...Map.groupBy(rows, ({ op, algorithm }) => `${op} ${algorithm}`)].map(
    ([label, points], index) => line(label, points, index, at),
  );
  const bounds = rows.filter(({ op }) => op === rows[0]?.op).map((row) => at(row.sizeBytes, row.boundGBps)); // prettier-ignore
  const titles = [
    `<text x="${MARGIN.left}" y="${MARGIN.top - 8}">${escape(name)}: busbw, GB/s (grey: bound)</text>`,
    `<text x="${MARGIN.left + inner.width / 2}" y="${HEIGHT - 6}" text-anchor="middle">bytes</text>`,
    `<polyline points="${[...new Set(bounds)].join(" ")}" fill="none" stroke="${BOUND_COLOR}" stroke-width="2"/>`,
  ];
  const body = [...ticks(sizes, speeds, at), ...titles, ...lines].join("");
  return `<g transform="translate(${left} ${top})">${body}</g>`;
}

function line(
  label: string,
  rows: readonly CollectiveRow[],
  index: number,
  at: (size: number, speed: number) => string,
): string {
  const color = COLORS[index % COLORS.length] ?? "black";
  const dash = DASHES[Math.floor(index / COLORS.length) % DASHES.length] ?? "";
  const points = rows.map(({ sizeBytes, busbwGBps }) => at(sizeBytes, busbwGBps));
  const x = WIDTH - MARGIN.right + 8;
  return [
    `<polyline points="${points.join(" ")}" fill="none" stroke="${color}" stroke-dasharray="${dash}"/>`,
    `<text x="${x}" y="${MARGIN.top + 10 + 14 * index}" fill="${color}">${escape(label)}${dash === "" ? "" : " (dashed)"}</text>`,
  ].join("");
}

function ticks(sizes: Axis, speeds: Axis, at: (size: number, speed: number) => string): string[] {
  const split = (text: string): string[] => text.split(",");
  const marks: string[] = [];
  for (let power = speeds.low; power <= speeds.high; power++) {
    const [x1 = "0", y = "0"] = split(at(10 ** sizes.low, 10 ** power));
    const [x2 = "0"] = split(at(10 ** sizes.high, 10 ** power));
    marks.push(`<line x1="${x1}" x2="${x2}" y1="${y}" y2="${y}" stroke="#ddd"/>`);
    marks.push(`<text x="${MARGIN.left - 6}" y="${y}" text-anchor="end">${label(power)}</text>`);
  }
  for (let power = sizes.low; power <= sizes.high; power++) {
    const [x = "0"] = split(at(10 ** power, 10 ** speeds.low));
    const y = HEIGHT - MARGIN.bottom + 14;
    marks.push(`<text x="${x}" y="${y}" text-anchor="middle">${label(power)}</text>`);
  }
  return marks;
}

function axisOf(values: readonly number[]): Axis {
  const positive = values.filter((value) => value > 0 && Number.isFinite(value));
  if (positive.length === 0) return { low: 0, high: 1 };
  const low = Math.floor(Math.log10(Math.min(...positive)));
  return { low, high: Math.max(low + 1, Math.ceil(Math.log10(Math.max(...positive)))) };
}

/** 10^power: plain where that is short. */
function label(power: number): string {
  return power >= -3 && power <= 3 ? String(10 ** power) : `1e${power}`;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
