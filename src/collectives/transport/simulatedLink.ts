/**
 * Any transport, made slower or worse: latency, bandwidth, jitter, loss, reordering, damage and the death
 * of a rank, for tests and for planning. What goes wrong is decided by a seed; times are as good as the
 * system's timers (1 ms).
 */
import type { AbortCause, ControlBlock } from "../watchdog/controlBlock.ts";
import type { Guard, Message, Transport, TransportKind, UseChunk } from "./transport.ts";

export interface LinkProperties {
  /** Between a message's last byte leaving and its arrival; does not hold up the next message. */
  readonly latencyMs?: number;
  /** Of all that this rank sends together. */
  readonly bandwidthGBps?: number;
  /** Up to so much is added to the latency of each message. */
  readonly jitterMs?: number;
  /** Shares of messages, 0 to 1: those that never arrive, … */
  readonly dropShare?: number;
  /** … that others may overtake (those of the same peer and tag still do not), by up to 5 ms, … */
  readonly reorderShare?: number;
  /** … that arrive with a byte changed, … */
  readonly corruptShare?: number;
  /** … or without their last bytes. */
  readonly truncateShare?: number;
  /** The rank dies when it has sent so many. */
  readonly dieAfterMessages?: number;
  readonly seed?: number;
}

const OVERTAKEN_MS = 5;
const DEFAULTS: Required<LinkProperties> = {
  latencyMs: 0,
  bandwidthGBps: Infinity,
  jitterMs: 0,
  dropShare: 0,
  reorderShare: 0,
  corruptShare: 0,
  truncateShare: 0,
  dieAfterMessages: Infinity,
  seed: 1,
};

/** Wraps one rank's end; what this rank sends is delayed or spoilt. */
export class SimulatedLink implements Transport {
  readonly kind: TransportKind;
  readonly rank: number;
  readonly worldSize: number;
  readonly worldRanks: readonly number[];
  readonly hosts: readonly number[];
  readonly control: ControlBlock;
  readonly #inner: Transport;
  readonly #link: Required<LinkProperties>;
  readonly #lastOfTag = new Map<string, Promise<unknown>>();
  #randomState: number;
  #lineFreeAt = 0;
  #lastArrivalAt = 0;
  #numSent = 0;
  #dead = false;

  constructor(inner: Transport, link: LinkProperties) {
    this.kind = inner.kind;
    this.rank = inner.rank;
    this.worldSize = inner.worldSize;
    this.worldRanks = inner.worldRanks;
    this.hosts = inner.hosts;
    this.control = inner.control;
    this.#inner = inner;
    this.#link = { ...DEFAULTS, ...link };
    this.#randomState = this.#link.seed;
  }

  kindAmong(ranks: readonly number[]): TransportKind {
    return this.#inner.kindAmong?.(ranks) ?? this.#inner.kind;
  }

  /** From now on nothing leaves this rank, as if its process had vanished. */
  die(): void {
    this.#dead = true;
  }

  get isDead(): boolean {
    return this.#dead;
  }

  publish(
    message: Message,
    bytes: Uint8Array,
    readers: readonly number[],
    guard: Guard,
  ): Promise<void> {
    const key = `${message.tag}>${readers.join()}`;
    return this.#carry(key, bytes, (spoilt) =>
      this.#inner.publish(message, spoilt, readers, guard),
    );
  }

  send(to: number, message: Message, bytes: Uint8Array, guard: Guard): Promise<void> {
    const key = `${message.tag}:${to}`;
    return this.#carry(key, bytes, (spoilt) => this.#inner.send(to, message, spoilt, guard));
  }

  recv(from: number, tag: number, use: UseChunk, guard: Guard): Promise<void> {
    return this.#inner.recv(from, tag, use, guard);
  }

  abort(cause: AbortCause): void {
    if (!this.#dead) this.#inner.abort(cause);
  }

  close(): void {
    this.#inner.close();
  }

  /** Resolves when the message has left; it is copied, and arrives by itself. */
  async #carry(
    key: string,
    bytes: Uint8Array,
    deliver: (bytes: Uint8Array) => Promise<void>,
  ): Promise<void> {
    this.#numSent += 1;
    if (this.#numSent > this.#link.dieAfterMessages) this.die();
    const { dropShare, corruptShare, truncateShare } = this.#link;
    const isLost = this.#happens(dropShare);
    const spoilt = new Uint8Array(bytes);
    if (this.#happens(corruptShare) && spoilt.length > 0) {
      const at = Math.floor(this.#random() * spoilt.length);
      spoilt[at] = (spoilt[at] ?? 0) ^ (1 + Math.floor(this.#random() * 255));
    }
    const isCut = this.#happens(truncateShare) && spoilt.length > 0;
    const length = isCut ? Math.floor(this.#random() * spoilt.length) : spoilt.length;
    const [leftAt, arrivesAt] = this.#times(bytes.length);
    const before = this.#lastOfTag.get(key) ?? Promise.resolve();
    const arrival = Promise.all([before, sleepUntil(arrivesAt)]).then(async () => {
      if (!isLost && !this.#dead) await deliver(spoilt.subarray(0, length));
    });
    // Its guard ends it; the operation that it belongs to then fails by itself.
    const settled = arrival.catch(() => undefined);
    this.#lastOfTag.set(key, settled);
    void settled.then(() => {
      if (this.#lastOfTag.get(key) === settled) this.#lastOfTag.delete(key);
    });
    await sleepUntil(leftAt);
  }

  /** When the last byte leaves, and when it arrives. */
  #times(bytes: number): [number, number] {
    const { latencyMs, bandwidthGBps, jitterMs, reorderShare } = this.#link;
    this.#lineFreeAt =
      Math.max(this.#lineFreeAt, performance.now()) + bytes / (bandwidthGBps * 1e6);
    const arrivesAt = this.#lineFreeAt + latencyMs + jitterMs * this.#random();
    if (this.#happens(reorderShare)) {
      return [this.#lineFreeAt, arrivesAt + OVERTAKEN_MS * this.#random()];
    }
    this.#lastArrivalAt = Math.max(this.#lastArrivalAt, arrivesAt);
    return [this.#lineFreeAt, this.#lastArrivalAt];
  }

  /** A share of 0 draws nothing, so that one fault's settings do not move another's. */
  #happens(share: number): boolean {
    return share > 0 && this.#random() < share;
  }

  /** Uniform in [0, 1): a linear congruential generator (Numerical Recipes, 3rd ed., section 7.1). */
  #random(): number {
    this.#randomState = (Math.imul(this.#randomState, 1664525) + 1013904223) >>> 0;
    return this.#randomState / 2 ** 32;
  }
}

function sleepUntil(timeMs: number): Promise<void> | undefined {
  const delayMs = timeMs - performance.now();
  if (delayMs <= 0) return undefined;
  return new Promise((resolve) => setTimeout(resolve, delayMs));
}
