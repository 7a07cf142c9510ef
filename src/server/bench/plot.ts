/** Latency against load as an SVG: one panel a latency, one line a percentile. */
import type { ServeSummary, Spread } from "./summary.ts";

const [WIDTH, HEIGHT] = [420, 260]; // of a panel
const MARGIN = { left: 60, right: 20, top: 34, bottom: 44 };
const LINES = [
  ["p50", "#0b5cad"],
  ["p90", "#b35900"],
  ["p99", "#b00020"],
] as const;
const PANELS = [
  ["TTFT", (summary: ServeSummary): Spread => summary.ttftMs],
  ["TPOT", (summary: ServeSummary): Spread => summary.tpotMs],
  ["ITL", (summary: ServeSummary): Spread => summary.itlMs],
] as const;

/** One point a summary, in the order of the load that was served. */
export function plotLatency(title: string, summaries: readonly ServeSummary[]): string {
  const points = [...summaries].sort((a, b) => a.outputTokPerS - b.outputTokPerS);
  const panels = PANELS.map(([name, read], index) => panel(name, points, read, index * WIDTH));
  const width = WIDTH * PANELS.length;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${HEIGHT + 24}" width="${width}" font-family="sans-serif" font-size="11">`,
    `<rect width="100%" height="100%" fill="white"/>`,
    `<text x="${MARGIN.left}" y="16" font-size="14">${escape(title)}</text>`,
    `<g transform="translate(0 20)">${panels.join("\n")}</g>`,
    `</svg>\n`,
  ].join("\n");
}

function panel(
  name: string,
  points: readonly ServeSummary[],
  read: (summary: ServeSummary) => Spread,
  left: number,
): string {
  const maxX = niceCeiling(Math.max(...points.map(({ outputTokPerS }) => outputTokPerS)));
  const maxY = niceCeiling(Math.max(...points.map((point) => read(point).p99)));
  const [innerWidth, innerHeight] = [
    WIDTH - MARGIN.left - MARGIN.right,
    HEIGHT - MARGIN.top - MARGIN.bottom,
  ];
  const x = (value: number): number => MARGIN.left + (innerWidth * value) / maxX;
  const y = (value: number): number => MARGIN.top + innerHeight * (1 - value / maxY);
  const ticks = [0, 0.25, 0.5, 0.75, 1].flatMap((part) => [
    `<line x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${y(part * maxY)}" y2="${y(part * maxY)}" stroke="#ddd"/>`,
    `<text x="${MARGIN.left - 6}" y="${y(part * maxY) + 4}" text-anchor="end">${label(part * maxY)}</text>`,
    `<text x="${x(part * maxX)}" y="${HEIGHT - MARGIN.bottom + 16}" text-anchor="middle">${label(part * maxX)}</text>`,
  ]);
  const lines = LINES.flatMap(([percentile, color], index) => {
    const places = points.map((point): [number, number] => [
      x(point.outputTokPerS),
      y(read(point)[percentile]),
    ]);
    const path = places.map(([px, py]) => `${px.toFixed(1)},${py.toFixed(1)}`).join(" ");
    const dots = places.map(
      ([px, py]) => `<circle cx="${px.toFixed(1)}" cy="${py.toFixed(1)}" r="3" fill="${color}"/>`,
    );
    const legend = `<text x="${MARGIN.left + 60 + 40 * index}" y="${MARGIN.top - 8}" fill="${color}">${percentile}</text>`;
    return [`<polyline points="${path}" fill="none" stroke="${color}"/>`, ...dots, legend];
  });
  const titles = [
    `<text x="${MARGIN.left}" y="${MARGIN.top - 8}">${name}, ms</text>`,
    `<text x="${WIDTH / 2}" y="${HEIGHT - 6}" text-anchor="middle">output tok/s, total</text>`,
  ];
  return `<g transform="translate(${left} 0)">${[...ticks, ...lines, ...titles].join("")}</g>`;
}

/** The next of 1, 2, 2.5, 5 times a power of ten. */
function niceCeiling(value: number): number {
  if (!(value > 0) || !Number.isFinite(value)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 2.5, 5, 10].find((candidate) => candidate * power >= value) ?? 10;
  return step * power;
}

function label(value: number): string {
  return value.toLocaleString("en-US", { maximumSignificantDigits: 3 });
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
