/**
 * Length-prefixed frames on a stream of bytes: a header of 32 bytes, little-endian, then the payload.
 *
 *   0 u16 magic   2 u8 kind   3 u8 flags   4 u32 payload bytes   8 i32 tag   12 i32 signature
 *   16 u32 message bytes   20 u32 offset in the message   24 u32 message checksum   28 u32 frame checksum
 */
import { CollectiveError } from "../../common/errors.ts";

/** data: part of a message. credit: bytes consumed. progress: a mirror of a rank's control words. */
export const FRAME_KINDS = ["data", "credit", "progress", "heartbeat", "abort", "bye"] as const;
export type FrameKind = (typeof FRAME_KINDS)[number];

export interface Frame {
  readonly kind: FrameKind;
  /** Of a data frame; of a credit frame the bytes consumed, of an abort frame the rank + 1. */
  readonly tag: number;
  readonly signature: number;
  readonly totalBytes: number;
  readonly offset: number;
  readonly checksum: number | undefined;
  readonly payload: Uint8Array;
}

/** Continues a CRC-32 from `crc`, 0 at the start. */
export type Crc32 = (bytes: Uint8Array, crc: number) => number;

export const HEADER_BYTES = 32;
/** A frame's payload at most; longer messages go in several. */
export const MAX_PAYLOAD_BYTES = 256 * 1024;

const MAGIC = 0x5444;
const [HAS_FRAME_CRC, HAS_CHECKSUM] = [1, 2];
const FRAME_CRC_AT = 28;

export const EMPTY = new Uint8Array(0);

/** Everything but the kind may be left out. */
export function frameOf(fields: Partial<Frame> & Pick<Frame, "kind">): Frame {
  const defaults = { tag: 0, signature: 0, totalBytes: 0, offset: 0, payload: EMPTY };
  return { ...defaults, checksum: undefined, ...fields };
}

/** The header that goes before the payload; with `crc` it covers both. */
export function encodeHeader(frame: Frame, crc?: Crc32): Uint8Array {
  const header = new Uint8Array(HEADER_BYTES);
  const view = new DataView(header.buffer);
  const flags =
    (crc === undefined ? 0 : HAS_FRAME_CRC) | (frame.checksum === undefined ? 0 : HAS_CHECKSUM);
  view.setUint16(0, MAGIC, true);
  view.setUint8(2, FRAME_KINDS.indexOf(frame.kind));
  view.setUint8(3, flags);
  view.setUint32(4, frame.payload.length, true);
  view.setInt32(8, frame.tag, true);
  view.setInt32(12, frame.signature, true);
  view.setUint32(16, frame.totalBytes, true);
  view.setUint32(20, frame.offset, true);
  view.setUint32(24, frame.checksum ?? 0, true);
  if (crc !== undefined) view.setUint32(FRAME_CRC_AT, frameCrc(crc, header, frame.payload), true);
  return header;
}

function frameCrc(crc: Crc32, header: Uint8Array, payload: Uint8Array): number {
  return crc(payload, crc(header.subarray(0, FRAME_CRC_AT), 0));
}

/** Cuts a stream into frames, whatever pieces it arrives in. Throws on what no sender of ours wrote. */
export class FrameParser {
  readonly #crc: Crc32;
  readonly #onFrame: (frame: Frame) => void;
  readonly #header = new Uint8Array(HEADER_BYTES);
  #numHeaderBytes = 0;
  #payload: Uint8Array<ArrayBuffer> = EMPTY;
  #numPayloadBytes = 0;

  constructor(crc: Crc32, onFrame: (frame: Frame) => void) {
    this.#crc = crc;
    this.#onFrame = onFrame;
  }

  push(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length) {
      if (this.#numHeaderBytes < HEADER_BYTES) {
        const part = bytes.subarray(at, at + HEADER_BYTES - this.#numHeaderBytes);
        this.#header.set(part, this.#numHeaderBytes);
        this.#numHeaderBytes += part.length;
        at += part.length;
        if (this.#numHeaderBytes === HEADER_BYTES) this.#begin();
      } else {
        const part = bytes.subarray(at, at + this.#payload.length - this.#numPayloadBytes);
        this.#payload.set(part, this.#numPayloadBytes);
        this.#numPayloadBytes += part.length;
        at += part.length;
      }
      if (this.#isComplete()) this.#finish();
    }
  }

  #isComplete(): boolean {
    const isHeaderIn = this.#numHeaderBytes === HEADER_BYTES;
    return isHeaderIn && this.#numPayloadBytes === this.#payload.length;
  }

  #begin(): void {
    const view = new DataView(this.#header.buffer);
    const [magic, length] = [view.getUint16(0, true), view.getUint32(4, true)];
    if (magic !== MAGIC || length > MAX_PAYLOAD_BYTES) {
      throw new CollectiveError(
        `frame: expected a header with up to ${MAX_PAYLOAD_BYTES} bytes, got ` +
          `${magic.toString(16)} with ${length}; the stream is damaged`,
      );
    }
    this.#payload = new Uint8Array(length);
    this.#numPayloadBytes = 0;
  }

  #finish(): void {
    const view = new DataView(this.#header.buffer);
    const flags = view.getUint8(3);
    const payload = this.#payload;
    if ((flags & HAS_FRAME_CRC) !== 0) {
      const [expected, got] = [
        view.getUint32(FRAME_CRC_AT, true),
        frameCrc(this.#crc, this.#header, payload),
      ];
      if (expected !== got) {
        throw new CollectiveError(
          `frame: expected checksum ${expected.toString(16)}, got ${got.toString(16)}; it was damaged on its way`,
        );
      }
    }
    this.#numHeaderBytes = 0;
    this.#payload = EMPTY;
    this.#numPayloadBytes = 0;
    const kind = FRAME_KINDS[view.getUint8(2)];
    if (kind === undefined)
      throw new CollectiveError("frame: of a kind this version does not know");
    this.#onFrame({
      kind,
      tag: view.getInt32(8, true),
      signature: view.getInt32(12, true),
      totalBytes: view.getUint32(16, true),
      offset: view.getUint32(20, true),
      checksum: (flags & HAS_CHECKSUM) === 0 ? undefined : view.getUint32(24, true),
      payload,
    });
  }
}
