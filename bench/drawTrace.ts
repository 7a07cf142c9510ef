/**
 * Draws a few milliseconds of one rank from traces of `--profile`, one below the other, as an SVG: when its
 * GPU computed, and when its all-reduces were under way, each micro-batch in its colour.
 *
 *   node bench/drawTrace.ts --traces "without=off.json,with overlap=on.json" --ms 60 --out docs/overlap.svg
 *                           [--rank 0] [--skip 0.6]   where in the trace to begin, 0 to 1
 */
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";

interface TraceEvent {
  readonly ph: string;
  readonly name: string;
  readonly cat?: string;
  readonly pid: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly args?: { readonly name?: string };
}

/** Milliseconds from the begin of the window. */
interface Bar {
  readonly begin: number;
  readonly end: number;
}

interface Lane {
  readonly label: string;
  readonly color: string;
  readonly bars: readonly Bar[];
}

const { values } = parseArgs({
  options: {
    traces: { type: "string" },
    ms: { type: "string", default: "60" },
    rank: { type: "string", default: "0" },
    skip: { type: "string", default: "0.6" },
    out: { type: "string" },
  },
});
const windowMs = Number(values.ms);
const COLORS = ["#2166ac", "#d6604d"];
const [LEFT, WIDTH, LANE, GAP, TITLE] = [150, 760, 18, 5, 26];

/** What happened in the window, in lanes: GPU and wire of each micro-batch. */
function lanesOf(path: string): Lane[] {
  const { traceEvents } = JSON.parse(readFileSync(path, "utf8")) as {
    readonly traceEvents: readonly TraceEvent[];
  };
  const rank = traceEvents.find(
    ({ name, args }) => name === "process_name" && args?.name === `rank ${values.rank}`,
  );
  const events = traceEvents.filter(({ ph, pid }) => ph === "X" && pid === rank?.pid);
  const sums = events.filter(({ name }) => name.startsWith("allReduce model"));
  const begins = sums.map(({ ts = 0 }) => ts).sort((a, b) => a - b);
  const zero = begins[Math.floor(begins.length * Number(values.skip))] ?? 0;
  const barsOf = (kept: (event: TraceEvent) => boolean): Bar[] =>
    merged(
      events.filter(kept).map(({ ts = 0, dur = 0 }) => {
        return { begin: (ts - zero) / 1000, end: (ts + dur - zero) / 1000 };
      }),
    );
  return ["", " 1"].flatMap((suffix, at): Lane[] => {
    const color = COLORS[at] ?? "";
    const wire = barsOf(
      ({ cat, name }) =>
        cat === `operations${suffix}` && /^allReduce [a-z]+[A-Z]?[a-z]*$/.test(name),
    );
    if (wire.length === 0) return [];
    const which = suffix === "" ? "" : ", 2nd";
    const gpu = barsOf(({ cat }) => cat === `GPU${suffix}`);
    return [
      { label: `GPU computes${which}`, color, bars: gpu },
      { label: `on the wire${which}`, color: `${color}66`, bars: wire },
    ];
  });
}

/** Bars of the window; those less than 0.1 ms apart become one. */
function merged(bars: readonly Bar[]): Bar[] {
  const result: Bar[] = [];
  for (const { begin, end } of [...bars].sort((a, b) => a.begin - b.begin)) {
    if (end < 0 || begin > windowMs) continue;
    const clipped = { begin: Math.max(0, begin), end: Math.min(windowMs, end) };
    const last = result.at(-1);
    if (last === undefined || clipped.begin > last.end + 0.1) result.push(clipped);
    else result[result.length - 1] = { begin: last.begin, end: Math.max(last.end, clipped.end) };
  }
  return result;
}

function draw(
  traces: readonly { readonly title: string; readonly lanes: readonly Lane[] }[],
): string {
  const parts: string[] = [];
  const x = (ms: number): string => (LEFT + (ms / windowMs) * WIDTH).toFixed(1);
  let y = 8;
  for (const { title, lanes } of traces) {
    parts.push(`<text x="8" y="${y + 14}" font-weight="bold">${title}</text>`);
    y += TITLE;
    for (const { label, color, bars } of lanes) {
      parts.push(`<text x="${LEFT - 8}" y="${y + 13}" text-anchor="end">${label}</text>`);
      for (const { begin, end } of bars) {
        const width = Math.max(0.5, ((end - begin) / windowMs) * WIDTH).toFixed(1);
        parts.push(
          `<rect x="${x(begin)}" y="${y}" width="${width}" height="${LANE}" fill="${color}"/>`,
        );
      }
      y += LANE + GAP;
    }
    y += 10;
  }
  for (let ms = 0; ms <= windowMs; ms += windowMs / 6) {
    const line = `<line x1="${x(ms)}" x2="${x(ms)}" y1="8" y2="${y}" stroke="#0002"/>`;
    parts.push(
      line,
      `<text x="${x(ms)}" y="${y + 14}" text-anchor="middle">${ms.toFixed(0)}</text>`,
    );
  }
  const size = `width="${LEFT + WIDTH + 30}" height="${y + 24}"`;
  const style = `font-family="sans-serif" font-size="12"`;
  const background = `<rect width="100%" height="100%" fill="white"/>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} ${style}>\n${background}\n${parts.join("\n")}\n</svg>\n`;
}

const traces = (values.traces ?? "").split(",").map((pair) => {
  const [title = "", path = ""] = pair.split("=");
  return { title, lanes: lanesOf(path) };
});
writeFileSync(values.out ?? "trace.svg", draw(traces));
