/** One collective in flight on one rank: transfers bound to its tag, signature and guard. */
import { crc32 } from "./checksum.ts";
import { oneShotPeers } from "./schedules.ts";
import type { Chunk, Message, Transport, UseChunk } from "./transport/transport.ts";
import type { OperationGuard } from "./watchdog/operationGuard.ts";

export class Operation {
  readonly rank: number;
  readonly worldSize: number;
  /** The host of each rank of the group. */
  readonly hosts: readonly number[];
  readonly #transport: Transport;
  readonly #message: Message;
  readonly #guard: OperationGuard;
  readonly #withChecksums: boolean;

  constructor(
    transport: Transport,
    message: Message,
    guard: OperationGuard,
    withChecksums: boolean,
  ) {
    this.rank = transport.rank;
    this.worldSize = transport.worldSize;
    this.hosts = transport.hosts;
    this.#transport = transport;
    this.#message = message;
    this.#guard = guard;
    this.#withChecksums = withChecksums;
  }

  /** All other ranks, in rank order. */
  get peers(): number[] {
    return oneShotPeers(this.rank, this.worldSize);
  }

  /** One to many; `bytes` may be reused once it resolves. */
  publish(bytes: Uint8Array, readers: readonly number[] = this.peers): Promise<void> {
    return this.#transport.publish(this.#messageOf(bytes), bytes, readers, this.#guard);
  }

  /** One to one; may wait for the receiver, so start the recv of the same step first or together. */
  send(to: number, bytes: Uint8Array): Promise<void> {
    return this.#transport.send(to, this.#messageOf(bytes), bytes, this.#guard);
  }

  /** Takes the next message of `from`, checked to belong to the same operation and to have `expectedBytes`. */
  recv(from: number, use: UseChunk, expectedBytes?: number): Promise<void> {
    const worldRank = this.#transport.worldRanks[from] ?? from;
    let crc = 0;
    const checked = (chunk: Chunk): void => {
      this.#guard.checkSignature(worldRank, chunk.signature);
      if (expectedBytes !== undefined) {
        this.#guard.checkBytes(worldRank, expectedBytes, chunk.totalBytes);
      }
      if (chunk.checksum !== undefined) {
        crc = crc32(chunk.bytes, crc);
        const isLast = chunk.offset + chunk.bytes.length === chunk.totalBytes;
        if (isLast) this.#guard.checkChecksum(worldRank, chunk.checksum, crc);
      }
      use(chunk);
    };
    return this.#transport.recv(from, this.#message.tag, checked, this.#guard);
  }

  /** Takes a message into `target`, whose size it must have. */
  recvInto(from: number, target: Uint8Array): Promise<void> {
    const copy: UseChunk = ({ bytes, offset }) => {
      target.set(bytes, offset);
    };
    return this.recv(from, copy, target.length);
  }

  /** Takes a message of any size into memory of its own. */
  async recvBytes(from: number): Promise<Uint8Array<ArrayBuffer>> {
    let received = new Uint8Array(0);
    await this.recv(from, ({ bytes, offset, totalBytes }) => {
      if (offset === 0) received = new Uint8Array(totalBytes);
      received.set(bytes, offset);
    });
    return received;
  }

  #messageOf(bytes: Uint8Array): Message {
    return this.#withChecksums ? { ...this.#message, checksum: crc32(bytes) } : this.#message;
  }
}
