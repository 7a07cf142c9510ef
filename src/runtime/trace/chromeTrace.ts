/**
 * Spans as Chrome's trace format (JSON object form, complete events "X"), which chrome://tracing and
 * ui.perfetto.dev open: a process a rank, a thread a track. Format: "Trace Event Format", Google, 2016.
 */
import type { TraceProcess, TraceSpan } from "../../common/trace.ts";
import { trackOrder } from "./tracks.ts";

/** One line of JSON a piece, so that a long trace never is one string. `startMs`: zero of the trace. */
export function* chromeTrace(
  processes: readonly TraceProcess[],
  startMs: number,
): Generator<string, void, undefined> {
  yield '{"displayTimeUnit":"ms","traceEvents":[\n';
  let separator = "";
  for (const [pid, process] of processes.entries()) {
    for (const event of eventsOf(process, pid, startMs)) {
      yield `${separator}${JSON.stringify(event)}`;
      separator = ",\n";
    }
  }
  yield "\n]}\n";
}

/** An event as a viewer reads it; times in microseconds. */
interface ChromeEvent {
  readonly ph: "X" | "M";
  readonly name: string;
  readonly pid: number;
  readonly tid?: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly cat?: string;
  readonly args?: object | undefined;
}

function* eventsOf(
  { name, spans, numDropped }: TraceProcess,
  pid: number,
  startMs: number,
): Generator<ChromeEvent, void, undefined> {
  const label = numDropped === 0 ? name : `${name} (without its first ${numDropped} spans)`;
  yield { ph: "M", name: "process_name", pid, args: { name: label } };
  yield { ph: "M", name: "process_sort_index", pid, args: { sort_index: pid } };
  const byTrack = Map.groupBy(spans, ({ track }) => track);
  const tracks = [...byTrack].sort(([a], [b]) => trackOrder(a) - trackOrder(b));
  let tid = 0;
  for (const [track, ofTrack] of tracks) {
    for (const [lane, ofLane] of inLanes(ofTrack).entries()) {
      tid += 1;
      const laneName = lane === 0 ? track : `${track} (${lane + 1})`;
      yield { ph: "M", name: "thread_name", pid, tid, args: { name: laneName } };
      yield { ph: "M", name: "thread_sort_index", pid, tid, args: { sort_index: tid } };
      for (const span of ofLane) {
        const { beginMs, endMs, args } = span;
        const [ts, dur] = [micros(beginMs - startMs), micros(endMs - beginMs)];
        yield { ph: "X", name: span.name, cat: track, pid, tid, ts, dur, args };
      }
    }
  }
}

/** Viewers draw spans of one row inside each other: those that overlap otherwise go to another lane. */
export function inLanes(spans: readonly TraceSpan[]): TraceSpan[][] {
  const sorted = [...spans].sort((a, b) => a.beginMs - b.beginMs || b.endMs - a.endMs);
  const lanes: { readonly spans: TraceSpan[]; readonly openEnds: number[] }[] = [];
  for (const span of sorted) {
    let lane = lanes.find(({ openEnds }) => {
      while ((openEnds.at(-1) ?? Infinity) <= span.beginMs) openEnds.pop();
      return span.endMs <= (openEnds.at(-1) ?? Infinity);
    });
    if (lane === undefined) {
      lane = { spans: [], openEnds: [] };
      lanes.push(lane);
    }
    lane.spans.push(span);
    lane.openEnds.push(span.endMs);
  }
  return lanes.map((lane) => lane.spans);
}

/** To the nanosecond: more digits are noise. */
function micros(ms: number): number {
  return Math.round(ms * 1e6) / 1e3;
}
