/** A Chrome trace as tests look at it. */

export interface ReadSpan {
  readonly process: string;
  /** Without the number of its lane. */
  readonly track: string;
  readonly tid: string;
  readonly name: string;
  /** Microseconds. */
  readonly ts: number;
  readonly dur: number;
  readonly args: Readonly<Record<string, string | number>>;
}

interface TraceEvent {
  readonly ph: string;
  readonly name: string;
  readonly cat?: string;
  readonly pid: number;
  readonly tid?: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly args?: Readonly<Record<string, string | number>>;
}

export class ReadTrace {
  /** In the order of their numbers. */
  readonly processes: readonly string[];
  readonly spans: readonly ReadSpan[];

  constructor(processes: readonly string[], spans: readonly ReadSpan[]) {
    this.processes = processes;
    this.spans = spans;
  }

  /** Spans of one track, by their begin. */
  of(process: string, track: string): ReadSpan[] {
    return this.spans
      .filter((span) => span.process === process && span.track === track)
      .sort((a, b) => a.ts - b.ts);
  }
}

/** Parses the text of a trace file. */
export function readTrace(text: string): ReadTrace {
  const { traceEvents } = JSON.parse(text) as { readonly traceEvents: readonly TraceEvent[] };
  const names = traceEvents.filter(({ ph, name }) => ph === "M" && name === "process_name");
  const processes = names.map(({ args }) => String(args?.["name"]));
  const spans = traceEvents
    .filter(({ ph }) => ph === "X")
    .map(({ name, cat = "", pid, tid = 0, ts = Number.NaN, dur = Number.NaN, args = {} }) => {
      const process = processes[pid] ?? "";
      return { process, track: cat, tid: `${pid}.${tid}`, name, ts, dur, args };
    });
  return new ReadTrace(processes, spans);
}
