/**
 * Runs a schedule over f32 data, cut into segments so that one travels while the next is still being
 * received and the last is summed. Two loops a rank, one that sends and one that receives; a segment
 * leaves as soon as the arrivals that it depends on are in.
 */
import { Accumulator, addInto, bytesOfArray } from "./floats.ts";
import type { Operation } from "./operation.ts";
import { type ChunkRange, chunkRange, type ScheduleStep } from "./schedules.ts";
import { decodeWire, encodeWire, wireBytes, type WireFormat } from "./wire.ts";

export interface SegmentOptions {
  readonly wire?: WireFormat;
  /** Of one segment; a chunk is cut into as many as it needs. */
  readonly segmentBytes?: number;
  /** Chunks begin at multiples of so many elements, e.g. of a row. */
  readonly unit?: number;
  /** Called once per element range as its final value lies in x, while others are on their way. */
  readonly onFinal?: ((begin: number, end: number) => void) | undefined;
}

// A slot of the shared-memory mailbox: two slots then hold one segment each.
const SEGMENT_BYTES = 256 * 1024;
const ALIGNMENT = 8; // of encoded segments

/** The data of one operation: x, its cuts, and for a narrow wire the encoded form of each segment. */
export class SegmentedData {
  readonly perChunk: number;
  readonly #x: Float32Array;
  readonly #ranges: readonly ChunkRange[];
  readonly #wire: WireFormat;
  readonly #encoded: readonly Uint8Array[];
  readonly #scratch: Uint8Array;
  readonly #decoded: Float32Array;
  readonly #isFinal: boolean[] = [];
  readonly #onFinal: SegmentOptions["onFinal"];

  constructor(x: Float32Array, numChunks: number, options: SegmentOptions) {
    const { wire = "f32", segmentBytes = SEGMENT_BYTES, unit = 1, onFinal } = options;
    const chunks = chunkRanges(x.length, numChunks, unit);
    const largest = Math.max(...chunks.map(({ begin, end }) => end - begin));
    this.perChunk = Math.max(1, Math.ceil((4 * largest) / segmentBytes));
    this.#x = x;
    this.#wire = wire;
    this.#onFinal = onFinal;
    this.#ranges = chunks.flatMap(({ begin, end }) =>
      Array.from({ length: this.perChunk }, (_, k) => {
        const part = chunkRange(end - begin, this.perChunk, k);
        return { begin: begin + part.begin, end: begin + part.end };
      }),
    );
    const length = wire === "f32" ? 0 : Math.ceil(largest / this.perChunk) + 1;
    this.#scratch = new Uint8Array(wireBytes(wire, length));
    this.#decoded = new Float32Array(length);
    this.#encoded = wire === "f32" ? [] : encodedViews(wire, this.#ranges);
  }

  /** Segments of a run of chunks, in the order in which they travel. */
  segmentsOf({ begin, end }: ChunkRange): number[] {
    const first = begin * this.perChunk;
    return Array.from({ length: (end - begin) * this.perChunk }, (_, i) => first + i);
  }

  /** What to send of a segment: its partial sum, or its final value, which its first sender rounds. */
  outgoing(segment: number, isFinal: boolean): Uint8Array {
    const part = this.#part(segment);
    const encoded = this.#encoded[segment];
    // a final value that came from elsewhere goes on as it came
    if (encoded !== undefined && this.#isFinal[segment] !== true) {
      encodeWire(this.#wire, part, encoded);
    }
    if (isFinal) this.#finalise(segment, encoded);
    return encoded ?? bytesOfArray(part);
  }

  async receive(
    operation: Operation,
    from: number,
    segment: number,
    combine: "add" | "replace",
  ): Promise<void> {
    const part = this.#part(segment);
    const encoded = this.#encoded[segment];
    if (combine === "replace") {
      await operation.recvInto(from, encoded ?? bytesOfArray(part));
      this.#finalise(segment, encoded);
    } else if (encoded === undefined) {
      await operation.recv(from, new Accumulator(part, 0).add, part.byteLength);
    } else {
      const arriving = this.#scratch.subarray(0, encoded.length);
      await operation.recvInto(from, arriving);
      const decoded = this.#decoded.subarray(0, part.length);
      decodeWire(this.#wire, arriving, decoded);
      addInto(part, 0, decoded);
    }
  }

  #finalise(segment: number, encoded: Uint8Array | undefined): void {
    if (this.#isFinal[segment] === true) return;
    this.#isFinal[segment] = true;
    if (encoded !== undefined) decodeWire(this.#wire, encoded, this.#part(segment));
    const { begin, end } = this.#ranges[segment] ?? { begin: 0, end: 0 };
    if (end > begin) this.#onFinal?.(begin, end);
  }

  #part(segment: number): Float32Array {
    const { begin, end } = this.#ranges[segment] ?? { begin: 0, end: 0 };
    return this.#x.subarray(begin, end);
  }
}

/** Chunks of whole units; `length` is a multiple of `unit`. */
export function chunkRanges(length: number, numChunks: number, unit = 1): ChunkRange[] {
  return Array.from({ length: numChunks }, (_, index) => {
    const { begin, end } = chunkRange(length / unit, numChunks, index);
    return { begin: begin * unit, end: end * unit };
  });
}

function encodedViews(wire: WireFormat, ranges: readonly ChunkRange[]): Uint8Array[] {
  const sizes = ranges.map(({ begin, end }) => wireBytes(wire, end - begin));
  const padded = sizes.map((size) => Math.ceil(size / ALIGNMENT) * ALIGNMENT);
  const memory = new Uint8Array(padded.reduce((sum, size) => sum + size, 0));
  let offset = 0;
  return sizes.map((size, i) => {
    const view = memory.subarray(offset, offset + size);
    offset += padded[i] ?? 0;
    return view;
  });
}

/** Ends when all steps have, on this rank. */
export async function runSchedule(
  operation: Operation,
  steps: readonly ScheduleStep[],
  data: SegmentedData,
): Promise<void> {
  const arrivals = new Arrivals();
  const received = receiveAll(operation, steps, data, arrivals).catch((error: unknown) => {
    arrivals.fail(error);
    throw error;
  });
  await Promise.all([received, sendAll(operation, steps, data, arrivals)]);
}

async function receiveAll(
  operation: Operation,
  steps: readonly ScheduleStep[],
  data: SegmentedData,
  arrivals: Arrivals,
): Promise<void> {
  for (const { recv } of steps) {
    if (recv === undefined) continue;
    for (const segment of data.segmentsOf(recv.chunks)) {
      await data.receive(operation, recv.from, segment, recv.combine);
      arrivals.add();
    }
  }
}

async function sendAll(
  operation: Operation,
  steps: readonly ScheduleStep[],
  data: SegmentedData,
  arrivals: Arrivals,
): Promise<void> {
  const dependsOn: number[] = []; // by segment: how many arrivals must be in before it may leave
  let numArrivals = 0;
  for (const { send, recv } of steps) {
    if (send !== undefined) {
      for (const segment of data.segmentsOf(send.chunks)) {
        await arrivals.reach(dependsOn[segment] ?? 0);
        await operation.send(send.to, data.outgoing(segment, send.isFinal));
      }
    }
    if (recv === undefined) continue;
    for (const segment of data.segmentsOf(recv.chunks)) dependsOn[segment] = ++numArrivals;
  }
}

/** Counts what has arrived; the sending loop waits for it. */
class Arrivals {
  #count = 0;
  #failure: { readonly error: unknown } | undefined;
  #wake: (() => void) | undefined;

  add(): void {
    this.#count += 1;
    this.#wake?.();
  }

  fail(error: unknown): void {
    this.#failure = { error };
    this.#wake?.();
  }

  async reach(count: number): Promise<void> {
    while (this.#count < count) {
      if (this.#failure !== undefined) throw this.#failure.error;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
