/**
 * A one-way queue of messages from one thread to another, on shared memory: a step plan reaches a
 * rank without a trip through the event loop's message port. A ring of bytes; each message is its
 * length and its text as UTF-8.
 */
import { WorkerError } from "../../common/errors.ts";
import { ceilDiv, roundUp } from "../../common/math.ts";
import { maxLogitBiases, maxLogprobs } from "../completionParams.ts";
import type { RunSpec } from "../rankSpec.ts";

/** Words before the ring: bytes written, bytes read (both wrap at 2^32), closed. */
const HEADER_WORDS = 3;
const [WRITTEN, READ, CLOSED] = [0, 1, 2];
/** A plan of 8,192 prompt tokens takes about 56 KB. A power of two, so that wrapped counts stay right. */
const MIN_CAPACITY_BYTES = 1 << 20;
/** Above this, the count of waiting bytes would need a 33rd bit. */
const MAX_CAPACITY_BYTES = 2 ** 31;

/** JSON of a number and its comma: token ids and block ids have at most 7 digits. */
const NUMBER_BYTES = 8;
/** JSON of a sequence's other fields: names, positions, sampling parameters. */
const SEQUENCE_BYTES = 1024;
/** JSON of a [tokenId, number] pair: of a logit bias, or of a log-probability with its 17 digits. */
const PAIR_BYTES = 40;

/** What bounds the size of a plan. */
export type PlanSizes = Pick<
  RunSpec,
  "maxInFlight" | "maxNumSeqs" | "maxNumBatchedTokens" | "maxModelLen" | "blockSize"
>;

/** Bytes of a queue that holds maxInFlight plans of the largest kind. Memory is used only as far as it is filled. */
export function planQueueBytes(sizes: PlanSizes, vocabSize: number): number {
  const { maxInFlight, maxNumSeqs, maxNumBatchedTokens, maxModelLen, blockSize } = sizes;
  const maskBytes = vocabSize / 6; // base64 of one bit a token
  const biasBytes = Math.min(maxLogitBiases, vocabSize) * PAIR_BYTES;
  const blockTableBytes = ceilDiv(maxModelLen, blockSize) * NUMBER_BYTES;
  const sequenceBytes = SEQUENCE_BYTES + maskBytes + biasBytes + blockTableBytes;
  const plan = maxNumSeqs * sequenceBytes + 2 * maxNumBatchedTokens * NUMBER_BYTES; // and as targets
  const cachedTokens = maxNumSeqs * maxModelLen * NUMBER_BYTES; // once each: with a first part
  return capacityFor(maxInFlight * plan + cachedTokens);
}

/** Bytes of a queue that holds maxInFlight outputs with the most log-probabilities. */
export function outputQueueBytes({ maxInFlight, maxNumSeqs }: PlanSizes): number {
  return capacityFor(maxInFlight * maxNumSeqs * (maxLogprobs + 2) * PAIR_BYTES);
}

function capacityFor(sizeBytes: number): number {
  const needed = 2 ** Math.ceil(Math.log2(sizeBytes));
  return Math.min(Math.max(needed, MIN_CAPACITY_BYTES), MAX_CAPACITY_BYTES);
}

/** The shared memory of a queue; structured clone keeps it shared. */
export type StepQueueMemory = SharedArrayBuffer;

export function createStepQueue(capacityBytes = MIN_CAPACITY_BYTES): StepQueueMemory {
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
