/**
 * The transport of a rank that has neighbours in its own process and others elsewhere: shared memory to
 * the former, TCP to the latter. Both see one control block, so that deadlines and agreement checks
 * work for all ranks alike. Ranks are world ranks in both.
 */
import { CollectiveError } from "../../common/errors.ts";
import type { AbortCause, ControlBlock } from "../watchdog/controlBlock.ts";
import type { Guard, Message, Transport, TransportKind, UseChunk } from "./transport.ts";

/** `near` has a lane for every world rank; only those of `nearRanks` are ever reached through it. */
export class RouterTransport implements Transport {
  readonly kind: TransportKind;
  readonly rank: number;
  readonly worldSize: number;
  readonly worldRanks: readonly number[];
  readonly hosts: readonly number[];
  readonly control: ControlBlock;
  readonly #near: Transport;
  readonly #far: Transport;
  readonly #nearRanks: ReadonlySet<number>;

  constructor(near: Transport, far: Transport, nearRanks: readonly number[]) {
    for (const [what, a, b] of [
      ["rank", near.rank, far.rank],
      ["worldSize", near.worldSize, far.worldSize],
    ] as const) {
      if (a !== b) throw new CollectiveError(`router: expected one ${what}, got ${a} and ${b}`);
    }
    this.rank = near.rank;
    this.worldSize = near.worldSize;
    this.worldRanks = near.worldRanks;
    this.hosts = far.hosts;
    this.control = near.control;
    this.#near = near;
    this.#far = far;
    this.#nearRanks = new Set(nearRanks);
    this.kind = this.kindAmong(this.worldRanks);
  }

  kindAmong(ranks: readonly number[]): TransportKind {
    return ranks.every((rank) => this.#nearRanks.has(rank)) ? this.#near.kind : this.#far.kind;
  }

  async publish(
    message: Message,
    bytes: Uint8Array,
    readers: readonly number[],
    guard: Guard,
  ): Promise<void> {
    const [near, far] = [true, false].map((isNear) =>
      readers.filter((reader) => this.#nearRanks.has(reader) === isNear),
    );
    await Promise.all([
      near?.length ? this.#near.publish(message, bytes, near, guard) : undefined,
      far?.length ? this.#far.publish(message, bytes, far, guard) : undefined,
    ]);
  }

  send(to: number, message: Message, bytes: Uint8Array, guard: Guard): Promise<void> {
    return this.#to(to).send(to, message, bytes, guard);
  }

  recv(from: number, tag: number, use: UseChunk, guard: Guard): Promise<void> {
    return this.#to(from).recv(from, tag, use, guard);
  }

  abort(cause: AbortCause): void {
    this.#near.abort(cause);
    this.#far.abort(cause);
  }

  close(): void {
    this.#far.close();
    this.#near.close();
  }

  #to(rank: number): Transport {
    return this.#nearRanks.has(rank) ? this.#near : this.#far;
  }
}
