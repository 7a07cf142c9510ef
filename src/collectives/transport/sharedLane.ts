/**
 * A lane: a few slots of shared memory with one writer and one or more readers. A slot is free when
 * its reader mask is 0; the writer fills any free slot and sets a bit for each reader, and each reader
 * clears its own after use. With two slots or more a writer fills one while the last is being read,
 * so an exchange needs no second barrier. Messages longer than a slot leave half of the slots to those that
 * fit one: a rank may wait for a short message before it reads the long one that was written first.
 *
 * Layout: [flags][header of slot 0] … [header of slot n-1][bytes of slot 0] … [bytes of slot n-1]
 */
import type { Message, UseChunk } from "./transport.ts";

export interface LaneShape {
  readonly slots: number;
  readonly slotBytes: number;
}

const CACHE_LINE_BYTES = 64;
const HEADER_WORDS = CACHE_LINE_BYTES / 4; // a line each, so that slots do not share one
const [READERS, POSITION, TAG, SIGNATURE, TOTAL, OFFSET, LENGTH] = [0, 1, 2, 3, 4, 5, 6];
const [HAS_CHECKSUM, CHECKSUM] = [7, 8];

export class SharedLane {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #shape: LaneShape;
  #position = 0; // the writer's count of chunks; the readers order by it

  constructor(buffer: SharedArrayBuffer, byteOffset: number, shape: LaneShape) {
    const headerWords = HEADER_WORDS * (1 + shape.slots);
    this.#words = new Int32Array(buffer, byteOffset, headerWords);
    const bytesOffset = byteOffset + 4 * headerWords;
    this.#bytes = new Uint8Array(buffer, bytesOffset, shape.slots * shape.slotBytes);
    this.#shape = shape;
  }

  static sizeBytes({ slots, slotBytes }: LaneShape): number {
    return CACHE_LINE_BYTES * (1 + slots) + slots * slotBytes;
  }

  /** Fills a free slot from `offset` on; returns the bytes written, or -1 when no slot is free. */
  tryWrite(message: Message, bytes: Uint8Array, offset: number, readers: number): number {
    const { slotBytes } = this.#shape;
    const slot = this.#freeSlot(bytes.length > slotBytes);
    if (slot < 0) return -1;
    const length = Math.min(slotBytes, bytes.length - offset);
    this.#bytes.set(bytes.subarray(offset, offset + length), slot * slotBytes);
    const header = HEADER_WORDS * (1 + slot);
    this.#words[header + POSITION] = this.#position++;
    this.#words[header + TAG] = message.tag;
    this.#words[header + SIGNATURE] = message.signature;
    this.#words[header + TOTAL] = bytes.length;
    this.#words[header + OFFSET] = offset;
    this.#words[header + LENGTH] = length;
    this.#words[header + HAS_CHECKSUM] = message.checksum === undefined ? 0 : 1;
    this.#words[header + CHECKSUM] = message.checksum ?? 0;
    // This atomic store publishes the plain stores before it.
    Atomics.store(this.#words, header + READERS, readers);
    return length;
  }

  /** Lends the oldest chunk of `tag` for this reader; returns the bytes left after it, or -1 if none. */
  tryUse(reader: number, tag: number, use: UseChunk): number {
    const slot = this.#slotOf(reader, tag);
    if (slot < 0) return -1;
    const header = HEADER_WORDS * (1 + slot);
    const totalBytes = this.#word(header + TOTAL) >>> 0;
    const [offset, length] = [this.#word(header + OFFSET) >>> 0, this.#word(header + LENGTH)];
    const begin = slot * this.#shape.slotBytes;
    const bytes = this.#bytes.subarray(begin, begin + length);
    const signature = this.#word(header + SIGNATURE);
    const hasChecksum = this.#word(header + HAS_CHECKSUM) === 1;
    const checksum = hasChecksum ? this.#word(header + CHECKSUM) >>> 0 : undefined;
    try {
      use({ bytes, offset, totalBytes, signature, checksum, shared: true });
    } finally {
      Atomics.and(this.#words, header + READERS, ~(1 << reader));
    }
    return totalBytes - offset - length;
  }

  /** A message of the writer waits for a free slot, or no longer; while any does, readers ring its bell. */
  addWaiting(change: 1 | -1): void {
    Atomics.add(this.#words, 0, change);
  }

  get writerWaiting(): boolean {
    return Atomics.load(this.#words, 0) > 0;
  }

  /** Long messages take slots from the front, short ones from the back. */
  #freeSlot(isLong: boolean): number {
    const { slots } = this.#shape;
    const numOpen = isLong ? Math.ceil(slots / 2) : slots;
    for (let i = 0; i < numOpen; i++) {
      const slot = isLong ? i : slots - 1 - i;
      if (Atomics.load(this.#words, HEADER_WORDS * (1 + slot) + READERS) === 0) return slot;
    }
    return -1;
  }

  #slotOf(reader: number, tag: number): number {
    let [oldest, oldestPosition] = [-1, 0];
    for (let slot = 0; slot < this.#shape.slots; slot++) {
      const header = HEADER_WORDS * (1 + slot);
      if ((Atomics.load(this.#words, header + READERS) & (1 << reader)) === 0) continue;
      if (this.#word(header + TAG) !== tag) continue;
      const position = this.#word(header + POSITION);
      if (oldest >= 0 && ((position - oldestPosition) | 0) >= 0) continue;
      [oldest, oldestPosition] = [slot, position];
    }
    return oldest;
  }

  #word(index: number): number {
    return this.#words[index] ?? 0;
  }
}

/** Puts one message into a lane, chunk by chunk as slots become free. */
export class LaneWriter {
  readonly #lane: SharedLane;
  readonly #message: Message;
  readonly #bytes: Uint8Array;
  readonly #readers: number;
  #offset = 0;
  #waiting = false;

  constructor(lane: SharedLane, message: Message, bytes: Uint8Array, readers: number) {
    this.#lane = lane;
    this.#message = message;
    this.#bytes = bytes;
    this.#readers = readers;
  }

  /** Writes what fits, calling `onChunk` after each; true when the whole message is in the lane. */
  write(onChunk: () => void): boolean {
    do {
      const length = this.#tryChunk();
      if (length < 0) return false;
      this.#offset += length;
      onChunk();
    } while (this.#offset < this.#bytes.length);
    if (this.#waiting) this.#lane.addWaiting(-1);
    return true;
  }

  #tryChunk(): number {
    const length = this.#lane.tryWrite(this.#message, this.#bytes, this.#offset, this.#readers);
    if (length >= 0 || this.#waiting) return length;
    // Say so first, then look again: a reader frees its slot first, then looks whether anyone waits.
    this.#waiting = true;
    this.#lane.addWaiting(1);
    return this.#lane.tryWrite(this.#message, this.#bytes, this.#offset, this.#readers);
  }
}
