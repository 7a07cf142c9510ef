/**
 * GPU time of every launch of a replay, on the host's clock, for a trace. The two clocks have no common
 * zero: a launch cannot have begun before its submit, so each submit gives a lower bound of the offset, and
 * none can have ended after its timestamps were mapped, which gives an upper one. The tightest lower bound
 * is taken: launches then appear too early by what a submit takes to reach the GPU, some 10 microseconds.
 */
import type { Tracer, TraceArgs } from "../common/trace.ts";
import type { Device } from "./device.ts";
import type { PassTimer } from "./spanTimer.ts";
import { Staging } from "./staging.ts";

/** WebGPU's limit for one query set; two queries a launch. */
const MAX_QUERIES = 4096;
/** Replays whose bounds count: clocks drift apart by some microseconds a second. */
const MAX_BOUNDS = 32;
const NANOSECONDS = 1e6; // a millisecond

/** One query set with its way to the host. */
interface QueryMemory {
  readonly queries: GPUQuerySet;
  readonly resolved: GPUBuffer;
  readonly staging: Staging;
}

/** A launch on the GPU's clock, in milliseconds. */
interface GpuSpan {
  readonly label: string;
  readonly beginMs: number;
  readonly endMs: number;
}

export class GpuTrace {
  readonly #gpu: GPUDevice;
  readonly #tracer: Tracer;
  readonly #free: QueryMemory[] = [];
  readonly #all: QueryMemory[] = [];
  readonly #lowerBounds: number[] = [];
  #pending: Promise<unknown> = Promise.resolve();

  /** The device must have timestamps. */
  constructor({ gpu }: Device, tracer: Tracer) {
    this.#gpu = gpu;
    this.#tracer = tracer;
  }

  /** Times one replay; its spans come with `args`. */
  begin(args: TraceArgs, track = "GPU"): GpuTraceRun {
    const memory = this.#free.pop() ?? this.#create();
    return new GpuTraceRun(memory, (run) => {
      const done = this.#collect(run, memory, track, args).finally(() => this.#free.push(memory));
      done.catch(() => undefined); // a device that fails reports it elsewhere
      this.#pending = Promise.allSettled([this.#pending, done]);
    });
  }

  /** Resolves when the spans of all replays so far are in the tracer. */
  async drain(): Promise<void> {
    await this.#pending;
  }

  destroy(): void {
    for (const { queries, resolved, staging } of this.#all) {
      for (const each of [queries, resolved, staging]) each.destroy();
    }
  }

  #create(): QueryMemory {
    const memory = {
      queries: this.#gpu.createQuerySet({ type: "timestamp", count: MAX_QUERIES }),
      resolved: this.#gpu.createBuffer({
        label: "trace timestamps",
        size: MAX_QUERIES * 8,
        usage: 0x0200 | 0x0004, // QUERY_RESOLVE | COPY_SRC
      }),
      staging: new Staging(this.#gpu, MAX_QUERIES * 8, "trace timestamps"),
    };
    this.#all.push(memory);
    return memory;
  }

  async #collect(
    { labels, submits }: GpuTraceRun,
    { queries, resolved, staging }: QueryMemory,
    track: string,
    args: TraceArgs,
  ): Promise<void> {
    if (labels.length === 0) return;
    const encoder = this.#gpu.createCommandEncoder({ label: "trace timestamps" });
    encoder.resolveQuerySet(queries, 0, labels.length * 2, resolved, 0);
    staging.encodeCopy(encoder, resolved, 0, labels.length * 16);
    this.#gpu.queue.submit([encoder.finish()]);
    const bytes = await staging.map(labels.length * 16);
    const mappedMs = performance.now();
    const ticks = new BigUint64Array(bytes.buffer, bytes.byteOffset, labels.length * 2);
    const spans = labels.map((label, i) => ({
      label,
      beginMs: Number(ticks[2 * i] ?? 0n) / NANOSECONDS,
      endMs: Number(ticks[2 * i + 1] ?? 0n) / NANOSECONDS,
    }));
    staging.unmap();
    const offsetMs = this.#offsetMs(spans, submits, mappedMs);
    for (const { label, beginMs, endMs } of spans) {
      const ends = Math.max(endMs, beginMs) + offsetMs; // some adapters count in coarse ticks
      this.#tracer.span(track, label, beginMs + offsetMs, { endMs: ends, args });
    }
  }

  #offsetMs(spans: readonly GpuSpan[], submits: readonly Submit[], mappedMs: number): number {
    let lower = -Infinity;
    for (const { firstLaunch, beginMs } of submits) {
      const first = spans[firstLaunch];
      if (first !== undefined) lower = Math.max(lower, beginMs - first.beginMs);
    }
    this.#lowerBounds.push(lower);
    if (this.#lowerBounds.length > MAX_BOUNDS) this.#lowerBounds.shift();
    const upper = mappedMs - Math.max(...spans.map(({ endMs }) => endMs));
    return Math.min(upper, Math.max(...this.#lowerBounds));
  }
}

/** When a submit was called, and the first of its launches. */
interface Submit {
  readonly firstLaunch: number;
  readonly beginMs: number;
}

/** The timer of one replay. */
export class GpuTraceRun implements PassTimer {
  readonly labels: string[] = [];
  readonly submits: Submit[] = [];
  readonly #memory: QueryMemory;
  readonly #finish: (run: GpuTraceRun) => void;
  #numSubmitted = 0;

  constructor(memory: QueryMemory, finish: (run: GpuTraceRun) => void) {
    this.#memory = memory;
    this.#finish = finish;
  }

  /** The timestamp writes of the next launch; launches beyond 2,048 of a replay are not timed. */
  next(label: string): GPUComputePassTimestampWrites | undefined {
    const index = this.labels.length * 2;
    if (index + 2 > MAX_QUERIES) return undefined;
    this.labels.push(label);
    return {
      querySet: this.#memory.queries,
      beginningOfPassWriteIndex: index,
      endOfPassWriteIndex: index + 1,
    };
  }

  /** What was encoded since the last call has been submitted, by a call that began at `beginMs`. */
  submitted(beginMs: number): void {
    if (this.#numSubmitted === this.labels.length) return;
    this.submits.push({ firstLaunch: this.#numSubmitted, beginMs });
    this.#numSubmitted = this.labels.length;
  }

  /** The replay has submitted all; asks for the timestamps. */
  finish(): void {
    this.#finish(this);
  }
}
