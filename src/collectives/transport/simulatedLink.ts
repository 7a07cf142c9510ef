/**
 * Any transport, made slower or worse: latency, bandwidth, jitter, lost messages and the death of a
 * rank, for tests and for planning. Deterministic for a seed.
 */
import type { AbortCause, ControlBlock } from "../watchdog/controlBlock.ts";
import type { Guard, Message, Transport, TransportKind, UseChunk } from "./transport.ts";

export interface LinkProperties {
  readonly latencyMs?: number;
  readonly bandwidthGBps?: number;
  /** Up to so much is added to the latency of each message. */
  readonly jitterMs?: number;
  /** Share of messages that never arrive, 0 to 1. */
  readonly dropShare?: number;
  readonly seed?: number;
}

/** Wraps one rank's end; what this rank sends is delayed, in order. */
export class SimulatedLink implements Transport {
  readonly kind: TransportKind;
  readonly rank: number;
  readonly worldSize: number;
  readonly worldRanks: readonly number[];
  readonly hosts: readonly number[];
  readonly control: ControlBlock;
  readonly #inner: Transport;
  readonly #link: Required<LinkProperties>;
  #randomState: number;
  #lineFree: Promise<void> = Promise.resolve();
  #dead = false;

  constructor(inner: Transport, link: LinkProperties) {
    this.kind = inner.kind;
    this.rank = inner.rank;
    this.worldSize = inner.worldSize;
    this.worldRanks = inner.worldRanks;
    this.hosts = inner.hosts;
    this.control = inner.control;
    this.#inner = inner;
    this.#link = {
      latencyMs: 0,
      bandwidthGBps: Infinity,
      jitterMs: 0,
      dropShare: 0,
      seed: 1,
      ...link,
    };
    this.#randomState = this.#link.seed;
  }

  /** From now on nothing leaves this rank, as if its process had vanished. */
  die(): void {
    this.#dead = true;
  }

  async publish(
    message: Message,
    bytes: Uint8Array,
    readers: readonly number[],
    guard: Guard,
  ): Promise<void> {
    if (await this.#isLost(bytes.length)) return;
    await this.#inner.publish(message, bytes, readers, guard);
  }

  async send(to: number, message: Message, bytes: Uint8Array, guard: Guard): Promise<void> {
    if (await this.#isLost(bytes.length)) return;
    await this.#inner.send(to, message, bytes, guard);
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

  /** Waits for the line and for the message's time on it; then says whether it was lost. */
  async #isLost(bytes: number): Promise<boolean> {
    const { latencyMs, bandwidthGBps, jitterMs, dropShare } = this.#link;
    const delayMs = latencyMs + bytes / (bandwidthGBps * 1e6) + jitterMs * this.#random();
    const lost = this.#random() < dropShare;
    const arrival = this.#lineFree.then(() => sleep(delayMs));
    this.#lineFree = arrival;
    await arrival;
    return lost || this.#dead;
  }

  /** Uniform in [0, 1): a linear congruential generator (Numerical Recipes, 3rd ed., section 7.1). */
  #random(): number {
    this.#randomState = (Math.imul(this.#randomState, 1664525) + 1013904223) >>> 0;
    return this.#randomState / 2 ** 32;
  }
}

function sleep(delayMs: number): Promise<void> | undefined {
  if (delayMs <= 0) return undefined;
  return new Promise((resolve) => setTimeout(resolve, delayMs));
}
