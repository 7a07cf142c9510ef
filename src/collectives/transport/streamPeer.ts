/**
 * One stream to one peer: messages out, cut into frames under backpressure, and messages in, kept until
 * a recv takes them. A sender may be `WINDOW_BYTES` ahead of the receiver's recvs; credit frames say
 * what was taken. So a slow receiver holds its sender back and memory stays bounded.
 */
import { CollectiveError } from "../../common/errors.ts";
import {
  type Crc32,
  encodeHeader,
  type Frame,
  FrameParser,
  frameOf,
  HEADER_BYTES,
  MAX_PAYLOAD_BYTES,
} from "./frames.ts";
import { isShared, type Message, type UseChunk } from "./transport.ts";

/** An open stream of bytes, both ways and in order: TCP, TLS, later a WebSocket. */
export interface ByteStream {
  /** `done` is called once the bytes may be reused. */
  write(parts: readonly Uint8Array[], done: () => void): void;
  /** Bytes written and not yet taken over by the system. */
  readonly backlogBytes: number;
  onBytes(listener: (bytes: Uint8Array) => void): void;
  /** Called once, with why it ended. */
  onEnd(listener: (reason: string) => void): void;
  /** Closes after what was written has left. */
  end(): void;
}

export interface PeerEvents {
  /** A frame that is not part of a message. */
  readonly onControl: (frame: Frame) => void;
  /** Something changed that a wait may look for. */
  readonly onChange: () => void;
  /** The peer sent what no peer of ours sends, or the stream ended. */
  readonly onBroken: (reason: string) => void;
}

const WINDOW_BYTES = 8 * 1024 * 1024;
const BACKLOG_BYTES = 1024 * 1024; // kept written ahead of the system's own buffers

export class StreamPeer {
  readonly #stream: ByteStream;
  readonly #crc: Crc32 | undefined;
  readonly #events: PeerEvents;
  readonly #inbox = new Map<number, Frame[]>();
  #uncredited = 0; // sent, not yet taken by the peer
  #consumed = 0; // taken here, not yet credited
  #lastHeardMs = performance.now();

  /** Outgoing frames get a checksum when `withChecksums`; incoming ones are checked wherever they have one. */
  constructor(stream: ByteStream, crc: Crc32, withChecksums: boolean, events: PeerEvents) {
    this.#stream = stream;
    this.#crc = withChecksums ? crc : undefined;
    this.#events = events;
    const parser = new FrameParser(crc, (frame) => {
      this.#receive(frame);
    });
    stream.onBytes((bytes) => {
      this.#lastHeardMs = performance.now();
      try {
        parser.push(bytes);
      } catch (error) {
        events.onBroken(error instanceof Error ? error.message : String(error));
        stream.end();
      }
    });
    stream.onEnd(events.onBroken);
  }

  get silentMs(): number {
    return performance.now() - this.#lastHeardMs;
  }

  /** A frame outside the window: control must pass where data waits. */
  control(frame: Parameters<typeof frameOf>[0]): void {
    this.#write(frameOf(frame), () => undefined);
  }

  end(): void {
    this.#stream.end();
  }

  /** A poll for Waiters: true once the whole message has left and `bytes` may be reused. */
  writer(message: Message, bytes: Uint8Array): () => boolean {
    // The system writes later, and does not read shared memory.
    const stable = isShared(bytes) ? new Uint8Array(bytes) : bytes;
    let [offset, isCut, numPending] = [0, false, 0];
    const done = (): void => {
      numPending -= 1;
      this.#events.onChange();
    };
    return () => {
      while (!isCut && this.#hasRoom()) {
        const payload = stable.subarray(offset, offset + MAX_PAYLOAD_BYTES);
        const frame = {
          ...message,
          kind: "data",
          totalBytes: stable.length,
          offset,
          payload,
        } as const;
        this.#uncredited += costOf(payload);
        numPending += 1;
        this.#write(frameOf(frame), done);
        offset += payload.length;
        isCut = offset === stable.length;
      }
      return isCut && numPending === 0;
    };
  }

  /** A poll for Waiters: takes what is here of the next message of `tag`; true after its last chunk. */
  taker(tag: number, use: UseChunk): () => boolean {
    return () => {
      for (;;) {
        const frame = this.#next(tag);
        if (frame === undefined) return false;
        const { payload, offset, totalBytes, signature, checksum } = frame;
        this.#credit(payload);
        use({ bytes: payload, offset, totalBytes, signature, checksum, shared: false });
        if (offset + payload.length === totalBytes) return true;
      }
    };
  }

  #hasRoom(): boolean {
    const inWindow = this.#uncredited === 0 || this.#uncredited + MAX_PAYLOAD_BYTES <= WINDOW_BYTES;
    return inWindow && this.#stream.backlogBytes < BACKLOG_BYTES;
  }

  #write(frame: Frame, done: () => void): void {
    const header = encodeHeader(frame, this.#crc);
    this.#stream.write(frame.payload.length === 0 ? [header] : [header, frame.payload], done);
  }

  #receive(frame: Frame): void {
    if (frame.kind === "data") {
      if (frame.offset + frame.payload.length > frame.totalBytes) {
        throw new CollectiveError("frame: ends behind its message; the stream is damaged");
      }
      const frames = this.#inbox.get(frame.tag);
      if (frames === undefined) this.#inbox.set(frame.tag, [frame]);
      else frames.push(frame);
    } else if (frame.kind === "credit") {
      this.#uncredited -= frame.tag;
    } else {
      this.#events.onControl(frame);
    }
    this.#events.onChange();
  }

  #next(tag: number): Frame | undefined {
    const frames = this.#inbox.get(tag);
    const frame = frames?.shift();
    if (frames?.length === 0) this.#inbox.delete(tag);
    return frame;
  }

  /** Said in few, large pieces: a frame for each small message would double the traffic. */
  #credit(payload: Uint8Array): void {
    this.#consumed += costOf(payload);
    if (this.#consumed < WINDOW_BYTES / 8) return;
    this.control({ kind: "credit", tag: this.#consumed });
    this.#consumed = 0;
  }
}

/** What a frame takes of the window; empty messages count too. */
function costOf(payload: Uint8Array): number {
  return HEADER_BYTES + payload.length;
}
