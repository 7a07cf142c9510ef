/** Spans of time for a profile, on a clock that all threads of a process share. */

/** Something that took time, on one rank or in the engine. */
export interface TraceSpan {
  /** Spans of one track are drawn in one row as far as they nest. */
  readonly track: string;
  readonly name: string;
  /** Milliseconds of the process clock (`processClockOffsetMs`). */
  readonly beginMs: number;
  readonly endMs: number;
  readonly args?: TraceArgs | undefined;
}

/** Plain values that a viewer shows with a span. */
export type TraceArgs = Readonly<Record<string, string | number>>;

/** All spans of one rank, or of the engine. */
export interface TraceProcess {
  /** "rank 0", "engine" */
  readonly name: string;
  readonly spans: readonly TraceSpan[];
  /** Spans that were not kept, the oldest. */
  readonly numDropped: number;
}

/** Takes the spans of a model's ranks and engine when it is shut down. */
export interface TraceSink {
  add(processes: readonly TraceProcess[]): Promise<void>;
}

/** About 100 bytes each: a rank keeps its newest quarter million, a few minutes of decode. */
const MAX_SPANS = 1 << 18;

/**
 * What to add to this thread's `performance.now()` to get the process clock. Whether a worker thread
 * counts from its own start or from the process's depends on Node's version (24.21: the process's), so the
 * monotonic clock behind `hrtime`, which is one for all, says. A page has one clock for all its workers.
 */
export function processClockOffsetMs(): number {
  const host: { readonly process?: { readonly hrtime?: { bigint(): bigint } } } = globalThis;
  const { hrtime } = host.process ?? {};
  if (hrtime === undefined) return performance.timeOrigin;
  let best = Infinity; // the reading with the least time in between
  for (let i = 0; i < 5; i++) {
    const now = performance.now();
    best = Math.min(best, Number(hrtime.bigint()) / 1e6 - now);
  }
  return best;
}

/** Collects the spans of one thread's part. There is none where nothing is profiled. */
export class Tracer {
  readonly #name: string;
  readonly #maxSpans: number;
  readonly #offsetMs = processClockOffsetMs();
  #spans: TraceSpan[] = [];
  #numDropped = 0;

  constructor(name: string, maxSpans = MAX_SPANS) {
    this.#name = name;
    this.#maxSpans = maxSpans;
  }

  /** `beginMs` and `endMs` are `performance.now()` of this thread; it ends now if not said. */
  span(track: string, name: string, beginMs: number, more: SpanMore = {}): void {
    const { endMs = performance.now(), args } = more;
    const offset = this.#offsetMs;
    this.#spans.push({ track, name, beginMs: beginMs + offset, endMs: endMs + offset, args });
    if (this.#spans.length < 2 * this.#maxSpans) return;
    this.#spans = this.#spans.slice(this.#maxSpans);
    this.#numDropped += this.#maxSpans;
  }

  /** All spans so far. */
  process(): TraceProcess {
    const spans = this.#spans.slice(-this.#maxSpans);
    const numDropped = this.#numDropped + this.#spans.length - spans.length;
    return { name: this.#name, spans, numDropped };
  }
}

/** What a span may have besides its begin. */
export interface SpanMore {
  readonly endMs?: number;
  readonly args?: TraceArgs | undefined;
}
