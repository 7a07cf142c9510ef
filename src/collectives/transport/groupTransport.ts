/**
 * A group's view of a transport: ranks are translated, and tags get the group's namespace, so that
 * two groups of the same ranks never take each other's messages.
 */
import type { AbortCause, ControlBlock } from "../watchdog/controlBlock.ts";
import { CollectiveError } from "../../common/errors.ts";
import type { Guard, Message, Transport, TransportKind, UseChunk } from "./transport.ts";

/** Bits of a tag below the namespace. */
export const TAG_BITS = 24;

export class GroupTransport implements Transport {
  readonly kind: TransportKind;
  readonly rank: number;
  readonly worldSize: number;
  readonly worldRanks: readonly number[];
  readonly hosts: readonly number[];
  readonly control: ControlBlock;
  readonly #world: Transport;
  readonly #namespaceBits: number;

  /** `worldRanks`: the members in group order; must contain the world transport's own rank. */
  constructor(world: Transport, worldRanks: readonly number[], namespace: number) {
    this.kind = world.kindAmong?.(worldRanks) ?? world.kind;
    this.rank = worldRanks.indexOf(world.rank);
    this.worldSize = worldRanks.length;
    this.worldRanks = worldRanks;
    this.hosts = worldRanks.map((rank) => world.hosts[rank] ?? 0);
    this.control = world.control;
    this.#world = world;
    this.#namespaceBits = namespace << TAG_BITS;
    if (this.rank < 0) {
      throw new CollectiveError(
        `group: expected a member of [${worldRanks.join(", ")}], got rank ${world.rank}`,
      );
    }
  }

  publish(
    message: Message,
    bytes: Uint8Array,
    readers: readonly number[],
    guard: Guard,
  ): Promise<void> {
    const worldReaders = readers.map((reader) => this.#worldRank(reader));
    return this.#world.publish(this.#inNamespace(message), bytes, worldReaders, guard);
  }

  send(to: number, message: Message, bytes: Uint8Array, guard: Guard): Promise<void> {
    return this.#world.send(this.#worldRank(to), this.#inNamespace(message), bytes, guard);
  }

  recv(from: number, tag: number, use: UseChunk, guard: Guard): Promise<void> {
    return this.#world.recv(this.#worldRank(from), tag | this.#namespaceBits, use, guard);
  }

  abort(cause: AbortCause): void {
    this.#world.abort(cause);
  }

  close(): void {
    this.#world.close();
  }

  #inNamespace(message: Message): Message {
    return { ...message, tag: message.tag | this.#namespaceBits };
  }

  #worldRank(rank: number): number {
    const worldRank = this.worldRanks[rank];
    if (worldRank === undefined) {
      throw new CollectiveError(`group: expected a rank below ${this.worldSize}, got ${rank}`);
    }
    return worldRank;
  }
}
