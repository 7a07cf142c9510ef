/**
 * A one-way queue of messages from one thread to another, on shared memory: a step plan reaches a
 * rank without a trip through the event loop's message port. A ring of bytes; each message is its
 * length and its text as UTF-8.
 */
import { WorkerError } from "../../common/errors.ts";
import { roundUp } from "../../common/math.ts";

/** Words before the ring: bytes written, bytes read (both wrap at 2^32), closed. */
const HEADER_WORDS = 3;
const [WRITTEN, READ, CLOSED] = [0, 1, 2];
/** A plan of 8,192 prompt tokens takes about 56 KB. A power of two, so that wrapped counts stay right. */
const DEFAULT_CAPACITY_BYTES = 1 << 20;

/** The shared memory of a queue; structured clone keeps it shared. */
export type StepQueueMemory = SharedArrayBuffer;

export function createStepQueue(capacityBytes = DEFAULT_CAPACITY_BYTES): StepQueueMemory {
  return new SharedArrayBuffer(HEADER_WORDS * 4 + capacityBytes);
}

/** One end of a queue; a thread either pushes or pops. */
export class StepQueue {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #ring: Uint8Array<SharedArrayBuffer>;
  readonly #encoder = new TextEncoder();
  readonly #decoder = new TextDecoder();

  constructor(memory: StepQueueMemory) {
    this.#words = new Int32Array(memory, 0, HEADER_WORDS);
    this.#ring = new Uint8Array(memory, HEADER_WORDS * 4);
  }

  /** Appends a message; throws a WorkerError when the reader is so far behind that it does not fit. */
  push(message: unknown): void {
    const bytes = this.#encoder.encode(JSON.stringify(message));
    const written = Atomics.load(this.#words, WRITTEN);
    const used = (written - Atomics.load(this.#words, READ)) >>> 0;
    const size = roundUp(4 + bytes.length, 4);
    if (used + size > this.#ring.length) {
      throw new WorkerError(
        `step queue: a message of ${size} bytes does not fit; ${used} of ${this.#ring.length} are waiting`,
      );
    }
    this.#copyIn(written, Uint8Array.of(...lengthBytes(bytes.length)));
    this.#copyIn(written + 4, bytes);
    Atomics.store(this.#words, WRITTEN, (written + size) | 0);
    Atomics.notify(this.#words, WRITTEN);
  }

  /** The next message; undefined once the queue is closed and empty. */
  async pop(): Promise<unknown> {
    for (;;) {
      const read = Atomics.load(this.#words, READ);
      const written = Atomics.load(this.#words, WRITTEN);
      if (written !== read) return this.#take(read);
      if (Atomics.load(this.#words, CLOSED) === 1) return undefined;
      const wait = Atomics.waitAsync(this.#words, WRITTEN, written);
      if (wait.async) await wait.value;
    }
  }

  /** No message follows; wakes the reader. */
  close(): void {
    Atomics.store(this.#words, CLOSED, 1);
    Atomics.notify(this.#words, WRITTEN);
  }

  #take(read: number): unknown {
    const header = this.#copyOut(read, 4);
    const length = new DataView(header.buffer).getUint32(0, true);
    const text = this.#decoder.decode(this.#copyOut(read + 4, length));
    Atomics.store(this.#words, READ, (read + roundUp(4 + length, 4)) | 0);
    return JSON.parse(text) as unknown;
  }

  #copyIn(at: number, bytes: Uint8Array): void {
    const begin = (at >>> 0) % this.#ring.length;
    const first = Math.min(bytes.length, this.#ring.length - begin);
    this.#ring.set(bytes.subarray(0, first), begin);
    this.#ring.set(bytes.subarray(first), 0);
  }

  #copyOut(at: number, length: number): Uint8Array<ArrayBuffer> {
    const begin = (at >>> 0) % this.#ring.length;
    const first = Math.min(length, this.#ring.length - begin);
    const bytes = new Uint8Array(length);
    bytes.set(this.#ring.subarray(begin, begin + first));
    bytes.set(this.#ring.subarray(0, length - first), first);
    return bytes;
  }
}

function lengthBytes(length: number): number[] {
  return [length & 255, (length >>> 8) & 255, (length >>> 16) & 255, length >>> 24];
}
