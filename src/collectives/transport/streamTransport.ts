/**
 * Ranks that reach each other by one stream a pair. What the ranks of one process know of each other
 * through shared memory travels here in control frames: progress, signs of life, aborts, leaving. A
 * connection that ends is never made again: it aborts the world with a reason that names the peer.
 */
import { CollectiveError } from "../../common/errors.ts";
import { type AbortCause, ControlBlock } from "../watchdog/controlBlock.ts";
import { bytesOfArray } from "../floats.ts";
import type { Crc32, Frame } from "./frames.ts";
import { LocalBell } from "./localBell.ts";
import { type ByteStream, StreamPeer } from "./streamPeer.ts";
import type { Guard, Message, Transport, UseChunk } from "./transport.ts";
import { Waiters } from "./waiters.ts";

export interface StreamTransportOptions {
  readonly rank: number;
  readonly worldSize: number;
  readonly hosts: readonly number[];
  /** CRC-32 on every frame sent. */
  readonly checksums?: boolean;
  /** A block shared with other transports of this rank; by default its own. */
  readonly control?: ControlBlock;
  /** Called when a peer, or its connection, aborted the world. */
  readonly onAbort?: (cause: AbortCause) => void;
  readonly sliceMs?: number;
  /** Longest silence of a peer before the world is aborted. */
  readonly silenceMs?: number;
}

const MIRROR_MS = 50; // how old a peer's view of this rank may be
const HEARTBEAT_MS = 1000;

export class StreamTransport implements Transport {
  readonly kind = "tcp";
  readonly rank: number;
  readonly worldSize: number;
  readonly worldRanks: readonly number[];
  readonly hosts: readonly number[];
  readonly control: ControlBlock;
  readonly #bell = new LocalBell();
  readonly #waiters: Waiters;
  readonly #peers = new Map<number, StreamPeer>();
  readonly #onAbort: (cause: AbortCause) => void;
  readonly #silenceMs: number;
  readonly #timer: ReturnType<typeof setInterval>;
  #mirrored = -1; // the block's count of changes that peers know of
  #mirroredAt = 0;
  #isAbortSent = false;
  #isClosed = false;

  constructor(
    streams: ReadonlyMap<number, ByteStream>,
    crc: Crc32,
    options: StreamTransportOptions,
  ) {
    const { rank, worldSize, hosts, checksums = false, control, sliceMs = 100 } = options;
    this.rank = rank;
    this.worldSize = worldSize;
    this.worldRanks = Array.from({ length: worldSize }, (_, index) => index);
    this.hosts = hosts;
    this.control =
      control ?? new ControlBlock(new ArrayBuffer(ControlBlock.sizeBytes(worldSize)), 0, worldSize);
    this.#waiters = new Waiters(this.#bell, sliceMs);
    this.#onAbort = options.onAbort ?? (() => undefined);
    this.#silenceMs = options.silenceMs ?? 30_000;
    this.control.join(rank);
    for (const [peer, stream] of streams) {
      this.#peers.set(peer, new StreamPeer(stream, crc, checksums, this.#eventsOf(peer)));
      this.control.join(peer); // it shook hands, so it is there
    }
    this.#timer = setInterval(() => {
      this.#tend();
    }, MIRROR_MS);
    // A rank that waits is kept alive by its waiters; one that does not may leave.
    (this.#timer as { unref?: () => void }).unref?.();
  }

  async publish(
    message: Message,
    bytes: Uint8Array,
    readers: readonly number[],
    guard: Guard,
  ): Promise<void> {
    await Promise.all(readers.map((reader) => this.send(reader, message, bytes, guard)));
  }

  send(to: number, message: Message, bytes: Uint8Array, guard: Guard): Promise<void> {
    // The announcement goes before the bytes: a peer that disagrees can then say what each side meant.
    if (this.#mirrored !== this.control.numChanges) this.#mirror();
    return this.#waiters.wait(to, this.#peer(to).writer(message, bytes), guard);
  }

  recv(from: number, tag: number, use: UseChunk, guard: Guard): Promise<void> {
    return this.#waiters.wait(from, this.#peer(from).taker(tag, use), guard);
  }

  abort(cause: AbortCause): void {
    this.control.abort(cause);
    this.#forwardAbort();
    this.#bell.ring();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearInterval(this.#timer);
    this.control.leave(this.rank);
    this.#mirror();
    for (const peer of this.#peers.values()) {
      peer.control({ kind: "bye" });
      peer.end();
    }
    this.#waiters.close(new CollectiveError(`rank ${this.rank} closed its transport`));
  }

  #peer(rank: number): StreamPeer {
    const peer = this.#peers.get(rank);
    if (peer === undefined)
      throw new CollectiveError(`tcp: rank ${this.rank} has no connection to rank ${rank}`);
    return peer;
  }

  #eventsOf(peer: number): ConstructorParameters<typeof StreamPeer>[3] {
    return {
      onChange: () => {
        this.#bell.ring();
      },
      onControl: (frame) => {
        this.#onControl(peer, frame);
      },
      onBroken: (reason) => {
        this.#onBroken(peer, reason);
      },
    };
  }

  #onControl(peer: number, { kind, tag, payload }: Frame): void {
    if (kind === "progress") {
      const words = new Int32Array(payload.slice().buffer);
      this.control.importRank(peer, words);
    } else if (kind === "heartbeat") {
      this.control.beat(peer);
    } else if (kind === "bye") {
      this.control.leave(peer);
    } else if (kind === "abort") {
      this.#isAbortSent = true; // whoever aborts tells everyone itself
      this.#abortBy({
        rank: tag === 0 ? undefined : tag - 1,
        reason: new TextDecoder().decode(payload),
      });
    }
  }

  #onBroken(peer: number, reason: string): void {
    if (this.#isClosed || this.control.progress(peer, 0).state === "left") return;
    const cause = {
      rank: undefined,
      reason: `rank ${this.rank} lost its connection to rank ${peer}: ${reason}`,
    };
    this.#abortBy(cause);
    this.#forwardAbort();
  }

  #abortBy(cause: AbortCause): void {
    this.control.abort(cause);
    this.#onAbort(cause);
    this.#bell.ring();
  }

  /** Also sends on what another transport of this rank, or its watcher, wrote into the block. */
  #forwardAbort(): void {
    const cause = this.control.abortCause;
    if (cause === undefined || this.#isAbortSent || this.#isClosed) return;
    this.#isAbortSent = true;
    const payload = new TextEncoder().encode(cause.reason);
    const tag = cause.rank === undefined ? 0 : cause.rank + 1;
    for (const peer of this.#peers.values()) peer.control({ kind: "abort", tag, payload });
  }

  #tend(): void {
    this.#forwardAbort();
    this.#mirror();
    for (const [rank, peer] of this.#peers) {
      if (peer.silentMs < this.#silenceMs) continue;
      this.#onBroken(rank, `nothing heard for ${(peer.silentMs / 1000).toFixed(0)} s`);
    }
  }

  #mirror(): void {
    const now = performance.now();
    const isNew = this.#mirrored !== this.control.numChanges;
    if (!isNew && now - this.#mirroredAt < HEARTBEAT_MS) return;
    this.#mirrored = this.control.numChanges;
    this.#mirroredAt = now;
    const frame = isNew
      ? ({ kind: "progress", payload: bytesOfArray(this.control.exportRank(this.rank)) } as const)
      : ({ kind: "heartbeat" } as const);
    for (const peer of this.#peers.values()) peer.control(frame);
  }
}
