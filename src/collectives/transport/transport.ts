/**
 * The contract of a transport: it moves bytes between ranks and knows no sum. Every transport runs
 * test/collectives/transport/transport.suite.ts.
 *
 * Matching   A message is found by (from, tag), whether it was sent or published. Messages of one
 *            (from, to, tag) arrive in the order sent, and in the order published; not across the two, so
 *            one operation uses only one of them between two ranks. Different tags may be received in
 *            any order.
 *            At most one `recv` and one `send` of a (peer, tag) are under way at a time.
 * Lending    `bytes` given to send or publish belong to the transport until its promise settles
 *            (loopback hands them straight to the receiver). A chunk lent to `use` dies when `use`
 *            returns: copy it, or write it to a device, before returning; never keep or await.
 * Waiting    Any call may wait for its peer: loopback's send ends when the receiver has used the
 *            bytes, sharedMemory's when they fit in the mailbox. So start a recv before awaiting a
 *            send when both ranks do both, as with `Promise.all([send, recv])`.
 * Failing    A wait ends when its guard throws; nothing waits without one.
 */
import type { AbortCause, ControlBlock } from "../watchdog/controlBlock.ts";

/** What travels with the bytes. */
export interface Message {
  /** What the receiver matches on: an unsigned 24-bit number; groups add their namespace above. */
  readonly tag: number;
  /** What the sender believes it is doing (signature.ts), so that the receiver can compare. */
  readonly signature: number;
  /** CRC-32 of all its bytes, where the sender was asked for one; a transport only carries it. */
  readonly checksum?: number | undefined;
}

/** A part of an incoming message, lent to the receiver until `use` returns. */
export interface Chunk {
  readonly bytes: Uint8Array;
  /** Where `bytes` begins in the message; chunks of a message arrive in order. */
  readonly offset: number;
  readonly totalBytes: number;
  readonly signature: number;
  readonly checksum: number | undefined;
  /** SharedArrayBuffer behind `bytes`: copy it to plain memory or a mapped range, since `writeBuffer` crashes on it. */
  readonly shared: boolean;
}

/** Called once per chunk, at least once per message (with no bytes when the message is empty). */
export type UseChunk = (chunk: Chunk) => void;

/** Ends a wait by throwing: the deadline, the abort and the agreement check of one operation. */
export interface Guard {
  /** No message of the operation is longer; undefined where that is not known. */
  readonly maxMessageBytes?: number | undefined;
  /** Called at each wake-up; one atomic load. */
  checkAbort(): void;
  /** Called every slice (at most 100 ms) of a wait for `waitingFor`, a world rank; undefined for several. */
  inspect(waitingFor: number | undefined): void;
}

/** Names a way to move bytes; tuning.ts has a table for each. */
export type TransportKind = "loopback" | "sharedMemory" | "tcp";

export interface Transport {
  readonly kind: TransportKind;
  readonly rank: number;
  readonly worldSize: number;
  /** The world rank of each of this transport's ranks; [0, 1, …] unless this is a group's view. */
  readonly worldRanks: readonly number[];
  /** The host that each of this transport's ranks lives on, as a number; all equal on one machine. */
  readonly hosts: readonly number[];
  /** Progress of all ranks and the abort flag; indexed by world rank. */
  readonly control: ControlBlock;

  /** One message to several ranks; resolves when `bytes` may be reused. */
  publish(
    message: Message,
    bytes: Uint8Array,
    readers: readonly number[],
    guard: Guard,
  ): Promise<void>;
  /** One message to one rank; resolves when `bytes` may be reused. */
  send(to: number, message: Message, bytes: Uint8Array, guard: Guard): Promise<void>;
  /** Takes the next message of (from, tag), sent or published; resolves after its last chunk. */
  recv(from: number, tag: number, use: UseChunk, guard: Guard): Promise<void>;

  /** How bytes move among these ranks, where that differs from `kind`. */
  kindAmong?(ranks: readonly number[]): TransportKind;

  /** Fails every operation of every rank, now and from now on. The first cause is kept. */
  abort(cause: AbortCause): void;
  /** Leaves: waits of this rank fail; ranks that wait for this one are told that it has left. */
  close(): void;
}

/** Whether a view lies on a SharedArrayBuffer (which a page without cross-origin isolation lacks). */
export function isShared(view: ArrayBufferView): boolean {
  return typeof SharedArrayBuffer !== "undefined" && view.buffer instanceof SharedArrayBuffer;
}
