/**
 * Ranks in one thread. The sender's view is handed straight to the receiver: no copy here, so a
 * mapped range goes into another device's `writeBuffer` at the price of that one copy.
 */
import { CollectiveError } from "../../common/errors.ts";
import { type AbortCause, ControlBlock } from "../watchdog/controlBlock.ts";
import { type Guard, isShared, type Message, type Transport, type UseChunk } from "./transport.ts";
import { LocalBell } from "./localBell.ts";
import { Waiters } from "./waiters.ts";

/** A message that some readers have not taken yet. */
interface Parcel {
  readonly from: number;
  readonly message: Message;
  readonly bytes: Uint8Array;
  numReadersLeft: number;
}

export interface LoopbackOptions {
  /** How often waits look at their deadline. */
  readonly sliceMs?: number;
  /** Pretends that ranks live on several hosts, for tests of two-level algorithms. */
  readonly hosts?: readonly number[];
}

/** What the ranks of one thread share; each takes its end with `transport(rank)`. */
export class LoopbackHub {
  readonly worldSize: number;
  readonly control: ControlBlock;
  readonly hosts: readonly number[];
  readonly #transports: LoopbackTransport[];

  constructor(worldSize: number, { sliceMs = 100, hosts }: LoopbackOptions = {}) {
    this.worldSize = worldSize;
    this.hosts = hosts ?? Array.from({ length: worldSize }, () => 0);
    this.control = new ControlBlock(
      new ArrayBuffer(ControlBlock.sizeBytes(worldSize)),
      0,
      worldSize,
    );
    this.#transports = Array.from(
      { length: worldSize },
      (_, rank) => new LoopbackTransport(this, rank, sliceMs),
    );
  }

  transport(rank: number): LoopbackTransport {
    const transport = this.#transports[rank];
    if (transport === undefined) {
      throw new CollectiveError(
        `loopback: expected a rank below ${this.worldSize}, got ${String(rank)}`,
      );
    }
    return transport;
  }

  ringAll(): void {
    for (const transport of this.#transports) transport.bell.ring();
  }
}

export class LoopbackTransport implements Transport {
  readonly kind = "loopback";
  readonly rank: number;
  readonly worldSize: number;
  readonly worldRanks: readonly number[];
  readonly hosts: readonly number[];
  readonly control: ControlBlock;
  readonly bell = new LocalBell();
  readonly #hub: LoopbackHub;
  readonly #waiters: Waiters;
  readonly #inbox = new Map<string, Parcel[]>();

  constructor(hub: LoopbackHub, rank: number, sliceMs: number) {
    this.rank = rank;
    this.worldSize = hub.worldSize;
    this.worldRanks = Array.from({ length: hub.worldSize }, (_, index) => index);
    this.hosts = hub.hosts;
    this.control = hub.control;
    this.#hub = hub;
    this.#waiters = new Waiters(this.bell, sliceMs);
    this.control.join(rank);
  }

  publish(
    message: Message,
    bytes: Uint8Array,
    readers: readonly number[],
    guard: Guard,
  ): Promise<void> {
    const parcel = { from: this.rank, message, bytes, numReadersLeft: readers.length };
    for (const reader of readers) this.#hub.transport(reader).deliver(parcel);
    const waitingFor = readers.length === 1 ? readers[0] : undefined;
    return this.#waiters.wait(waitingFor, () => parcel.numReadersLeft === 0, guard);
  }

  send(to: number, message: Message, bytes: Uint8Array, guard: Guard): Promise<void> {
    return this.publish(message, bytes, [to], guard);
  }

  recv(from: number, tag: number, use: UseChunk, guard: Guard): Promise<void> {
    return this.#waiters.wait(from, () => this.#take(inboxKey(from, tag), use), guard);
  }

  deliver(parcel: Parcel): void {
    const key = inboxKey(parcel.from, parcel.message.tag);
    const parcels = this.#inbox.get(key);
    if (parcels === undefined) this.#inbox.set(key, [parcel]);
    else parcels.push(parcel);
    this.bell.ring();
  }

  abort(cause: AbortCause): void {
    this.control.abort(cause);
    this.#hub.ringAll();
  }

  close(): void {
    this.control.leave(this.rank);
    this.#waiters.close(new CollectiveError(`rank ${this.rank} closed its transport`));
    this.#inbox.clear();
    this.#hub.ringAll();
  }

  #take(key: string, use: UseChunk): boolean {
    const parcels = this.#inbox.get(key);
    const parcel = parcels?.shift();
    if (parcels === undefined || parcel === undefined) return false;
    if (parcels.length === 0) this.#inbox.delete(key);
    const { bytes, message } = parcel;
    try {
      use({
        bytes,
        offset: 0,
        totalBytes: bytes.length,
        signature: message.signature,
        checksum: message.checksum,
        shared: isShared(bytes),
      });
    } finally {
      parcel.numReadersLeft -= 1;
      this.#hub.transport(parcel.from).bell.ring();
    }
    return true;
  }
}

function inboxKey(from: number, tag: number): string {
  return `${from}:${tag}`;
}
