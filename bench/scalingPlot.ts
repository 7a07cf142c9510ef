/** Speed against the number of devices as an SVG: one panel a phase, dashed what linear scaling would be. */

/** One figure of a layout. */
export interface ScalingPoint {
  /** e.g. "decode, batch 32": a panel. */
  readonly panel: string;
  /** e.g. "tp": a line. */
  readonly line: string;
  readonly numDevices: number;
  readonly tokPerS: number;
  /** What bandwidth and arithmetic of these devices allow. */
  readonly boundTokPerS: number;
}

const [WIDTH, HEIGHT] = [380, 300]; // of a panel
const MARGIN = { left: 64, right: 12, top: 36, bottom: 56, inner: 36 };
const COLORS = ["#0b5cad", "#b35900", "#2e7d32", "#6a1b9a"];

/** Where a value lies in a panel, in pixels. */
interface Scales {
  readonly x: (numDevices: number) => number;
  readonly y: (tokPerS: number) => number;
}

export function plotScaling(title: string, points: readonly ScalingPoint[]): string {
  const panels = [...Map.groupBy(points, ({ panel }) => panel)];
  const width = WIDTH * Math.max(1, panels.length);
  const drawn = panels.map(
    ([name, own], index) =>
      `<g transform="translate(${index * WIDTH} 24)">${drawPanel(name, own)}</g>`,
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${HEIGHT + 24}" width="${width}" font-family="sans-serif" font-size="11">`,
    `<rect width="100%" height="100%" fill="white"/>`,
    `<text x="${MARGIN.left}" y="18" font-size="14">${escapeText(title)}</text>`,
    ...drawn,
    `</svg>\n`,
  ].join("\n");
}

/** Both axes are logarithmic: linear scaling is a straight line, and 1, 2, 4, 8 stand at equal steps. */
function drawPanel(name: string, points: readonly ScalingPoint[]): string {
  const counts = [...new Set(points.map(({ numDevices }) => numDevices))].sort((a, b) => a - b);
  const most = Math.max(2, counts.at(-1) ?? 1);
  const single = points.find(({ numDevices }) => numDevices === 1)?.tokPerS;
  const speeds = points.map(({ tokPerS }) => tokPerS);
  const low = Math.min(...speeds) / 1.6;
  const high = 1.4 * Math.max(...speeds, (single ?? 0) * most);
  const [width, height] = [WIDTH - MARGIN.left - MARGIN.right, HEIGHT - MARGIN.top - MARGIN.bottom];
  const scales: Scales = {
    x: (numDevices) => MARGIN.left + MARGIN.inner + ((width - 2 * MARGIN.inner) * Math.log(numDevices)) / Math.log(most), // prettier-ignore
    y: (tokPerS) => MARGIN.top + (height * Math.log(high / tokPerS)) / Math.log(high / low),
  };
  const lines = [...Map.groupBy(points, ({ line }) => line)];
  return [
    `<text x="${MARGIN.left}" y="${MARGIN.top - 14}">${escapeText(name)}: tok/s (of its bound)</text>`,
    ...drawGrid(counts, ticksBetween(low, high), scales),
    ...(single === undefined ? [] : [drawLinear(single, most, scales)]),
    ...lines.map(([line, own], index) => drawLine(line, own, index, scales)),
  ].join("\n");
}

function drawGrid(counts: readonly number[], ticks: readonly number[], { x, y }: Scales): string[] {
  const right = WIDTH - MARGIN.right;
  const horizontal = ticks.map(
    (value) =>
      `<line x1="${MARGIN.left}" x2="${right}" y1="${px(y(value))}" y2="${px(y(value))}" stroke="#ddd"/><text x="${MARGIN.left - 6}" y="${px(y(value) + 4)}" text-anchor="end">${figure(value)}</text>`,
  );
  const below = HEIGHT - MARGIN.bottom + 16;
  const marks = counts.map(
    (count) => `<text x="${px(x(count))}" y="${below}" text-anchor="middle">${count}</text>`,
  );
  const label = `<text x="${right}" y="${below + 14}" text-anchor="end">devices</text>`;
  return [...horizontal, ...marks, label];
}

function drawLinear(single: number, most: number, { x, y }: Scales): string {
  const ends = [1, most].map((count) => `${px(x(count))},${px(y(single * count))}`);
  return `<polyline points="${ends.join(" ")}" fill="none" stroke="#888" stroke-dasharray="4 3"/>`;
}

function drawLine(
  name: string,
  points: readonly ScalingPoint[],
  index: number,
  { x, y }: Scales,
): string {
  const color = COLORS[index % COLORS.length] ?? "black";
  const sorted = [...points].sort((a, b) => a.numDevices - b.numDevices);
  const marks = sorted.map((point) => {
    const [left, top] = [px(x(point.numDevices)), px(y(point.tokPerS))];
    const share = Math.round((100 * point.tokPerS) / point.boundTokPerS);
    const text = `${figure(point.tokPerS)} (${share} %)`;
    const label = `<text x="${left}" y="${px(y(point.tokPerS) + (index % 2 === 0 ? -8 : 16))}" text-anchor="middle" fill="${color}">${text}</text>`;
    return `<circle cx="${left}" cy="${top}" r="3" fill="${color}"/>${label}`;
  });
  const path = sorted.map(({ numDevices, tokPerS }) => `${px(x(numDevices))},${px(y(tokPerS))}`);
  const key = `<text x="${MARGIN.left + 60 * index}" y="${HEIGHT - 12}" fill="${color}">— ${escapeText(name)}</text>`;
  return `<polyline points="${path.join(" ")}" fill="none" stroke="${color}" stroke-width="2"/>${marks.join("")}${key}`;
}

/** 1, 2 and 5 times the powers of ten. */
function ticksBetween(low: number, high: number): number[] {
  const ticks: number[] = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
    ticks.push(...[1, 2, 5].map((step) => step * 10 ** power));
  }
  return ticks.filter((tick) => tick >= low && tick <= high);
}

function px(value: number): string {
  return value.toFixed(1);
}

function figure(value: number): string {
  return value.toLocaleString("en-US", { maximumSignificantDigits: 3 });
}

function escapeText(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
