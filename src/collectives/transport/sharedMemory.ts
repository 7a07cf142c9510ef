/**
 * Ranks in worker threads of one process, over one SharedArrayBuffer: a control block, a bell a rank,
 * a publishing lane a rank, and a mailbox lane for each ordered pair of ranks. Two copies a message:
 * into a slot, and out of it by the receiver.
 *
 * The main thread makes the descriptor, hands it to every worker (structured clone keeps the memory
 * shared), and each attaches as its rank.
 */
import { CollectiveError } from "../../common/errors.ts";
import { roundUp } from "../../common/math.ts";
import { type AbortCause, ControlBlock } from "../watchdog/controlBlock.ts";
import { BELL_WORDS, SharedBell, type WaitMode } from "./sharedBell.ts";
import { type LaneShape, LaneWriter, SharedLane } from "./sharedLane.ts";
import type { Guard, Message, Transport, UseChunk } from "./transport.ts";
import { Waiters } from "./waiters.ts";

/** Plain data; the shape travels with the memory so that all ranks agree on it. */
export interface SharedMemoryDescriptor {
  readonly kind: "sharedMemory";
  readonly worldSize: number;
  readonly publishing: LaneShape;
  readonly mailbox: LaneShape;
  readonly buffer: SharedArrayBuffer;
}

export interface SharedMemoryShape {
  /** Slots of the one-to-many lane; messages longer than a slot take half of them at most. */
  readonly publishing?: LaneShape;
  /** Slots of each pair's lane: longer messages go in chunks of a slot. */
  readonly mailbox?: LaneShape;
}

export interface AttachOptions {
  readonly wait?: WaitMode;
  readonly sliceMs?: number;
}

const MAX_RANKS = 32; // a bit each in a slot's mask of readers
const MAX_MESSAGE_BYTES = 2 ** 32 - 1;
const SHORT_SPIN_MS = 0.05;
const LONG_SPIN_MS = 0.3;

/**
 * How long a rank looks for what it waits for before it sleeps, in milliseconds. Being woken takes 25 to 60 µs
 * on Linux, a third of a small all-reduce between GPUs, so ranks with cores to spare look longer than GPUs
 * differ by; not where adapters compute on these cores (lavapipe, 2 ranks on 2 cores: the same within the noise).
 */
export function chooseSpinMs(
  worldSize: number,
  numCores: number,
  computesOnCores: boolean,
): number {
  if (worldSize >= numCores) return 0;
  return computesOnCores || 2 * worldSize > numCores ? SHORT_SPIN_MS : LONG_SPIN_MS;
}

/** On the main thread, once per world. Memory is committed by the system only where it is used. */
export function createSharedMemory(
  worldSize: number,
  {
    publishing = { slots: 8, slotBytes: 256 * 1024 },
    mailbox = { slots: 6, slotBytes: 256 * 1024 },
  }: SharedMemoryShape = {},
): SharedMemoryDescriptor {
  if (!Number.isInteger(worldSize) || worldSize < 1 || worldSize > MAX_RANKS) {
    throw new CollectiveError(`sharedMemory: expected 1 to ${MAX_RANKS} ranks, got ${worldSize}`);
  }
  for (const { slots, slotBytes } of [publishing, mailbox]) {
    if (slots < 1 || slotBytes < 64 || slotBytes % 64 !== 0) {
      throw new CollectiveError(
        `sharedMemory: expected slots of a multiple of 64 bytes, got ${slots} of ${slotBytes}`,
      );
    }
  }
  const shape = { worldSize, publishing, mailbox };
  const buffer = new SharedArrayBuffer(layoutOf(shape).sizeBytes);
  return { kind: "sharedMemory", ...shape, buffer };
}

/** Progress of all ranks, for the thread that watches them. */
export function controlOf(descriptor: SharedMemoryDescriptor): ControlBlock {
  return open(descriptor).control;
}

/** Ends every operation of every rank from outside, e.g. when a worker has died. */
export function abortSharedMemory(descriptor: SharedMemoryDescriptor, cause: AbortCause): void {
  const { bells, control } = open(descriptor);
  control.abort(cause);
  for (const bell of bells) SharedBell.alarm(bell);
}

/** In each worker, once. */
export function attachSharedMemory(
  descriptor: SharedMemoryDescriptor,
  rank: number,
  options: AttachOptions = {},
): SharedMemoryTransport {
  if (!Number.isInteger(rank) || rank < 0 || rank >= descriptor.worldSize) {
    throw new CollectiveError(
      `sharedMemory: expected a rank below ${descriptor.worldSize}, got ${rank}`,
    );
  }
  return new SharedMemoryTransport(descriptor, rank, options);
}

/** What decides whether a rank looks for a message before it sleeps. */
export interface RankWaiting {
  /** Its device computes on the cores that looking takes. */
  readonly computesOnCores: boolean;
  /**
   * Whether its thread may stop. Not while a buffer waits to be mapped: this thread alone would find it
   * mapped, and the wait for a message that comes much later (the next step's tokens) would hold it up.
   */
  readonly mayStop: () => boolean;
}

export class SharedMemoryTransport implements Transport {
  readonly kind = "sharedMemory";
  readonly rank: number;
  readonly worldSize: number;
  readonly worldRanks: readonly number[];
  readonly hosts: readonly number[];
  readonly control: ControlBlock;
  readonly #descriptor: SharedMemoryDescriptor;
  readonly #layout: Layout;
  readonly #bells: readonly Int32Array[];
  readonly #lanes = new Map<number, SharedLane>();
  readonly #bell: SharedBell;
  readonly #waiters: Waiters;

  constructor(descriptor: SharedMemoryDescriptor, rank: number, options: AttachOptions) {
    const { wait = "async", sliceMs = 100 } = options;
    const { worldSize } = descriptor;
    const { bells, control } = open(descriptor);
    this.rank = rank;
    this.worldSize = worldSize;
    this.worldRanks = Array.from({ length: worldSize }, (_, index) => index);
    this.hosts = this.worldRanks.map(() => 0);
    this.control = control;
    this.#descriptor = descriptor;
    this.#layout = layoutOf(descriptor);
    this.#bells = bells;
    this.#bell = new SharedBell(this.#bellOf(rank), { wait, sliceMs });
    this.setWaiting({ computesOnCores: true, mayStop: () => true });
    this.#waiters = new Waiters(this.#bell, sliceMs);
    control.join(rank);
  }

  /** How this rank waits once it has a device; until then as if its device computed on the cores. */
  setWaiting({ computesOnCores, mayStop }: RankWaiting): void {
    const numCores = navigator.hardwareConcurrency;
    this.#bell.spinMs = chooseSpinMs(this.worldSize, numCores, computesOnCores);
    this.#bell.maySpin = mayStop;
  }

  publish(
    message: Message,
    bytes: Uint8Array,
    readers: readonly number[],
    guard: Guard,
  ): Promise<void> {
    if (readers.length === 0) return Promise.resolve();
    return this.#write(this.#publishingLane(this.rank), message, bytes, readers, guard);
  }

  send(to: number, message: Message, bytes: Uint8Array, guard: Guard): Promise<void> {
    return this.#write(this.#mailboxLane(this.rank, to), message, bytes, [to], guard);
  }

  recv(from: number, tag: number, use: UseChunk, guard: Guard): Promise<void> {
    const lanes = [this.#publishingLane(from), this.#mailboxLane(from, this.rank)];
    const takeAll = (): boolean => {
      for (const lane of lanes) {
        for (;;) {
          const bytesLeft = lane.tryUse(this.rank, tag, use);
          if (bytesLeft < 0) break;
          if (lane.writerWaiting) this.#ring(from);
          if (bytesLeft === 0) return true;
        }
      }
      return false;
    };
    const { publishing, mailbox } = this.#descriptor;
    const slotBytes = Math.min(publishing.slotBytes, mailbox.slotBytes);
    const isWhole = (guard.maxMessageBytes ?? Infinity) <= slotBytes;
    return this.#waiters.wait(from, takeAll, guard, isWhole);
  }

  abort(cause: AbortCause): void {
    this.control.abort(cause);
    for (const bell of this.#bells) SharedBell.alarm(bell);
  }

  close(): void {
    this.control.leave(this.rank);
    this.#waiters.close(new CollectiveError(`rank ${this.rank} closed its transport`));
    for (const bell of this.#bells) SharedBell.alarm(bell);
  }

  #write(
    lane: SharedLane,
    message: Message,
    bytes: Uint8Array,
    readers: readonly number[],
    guard: Guard,
  ): Promise<void> {
    if (bytes.length > MAX_MESSAGE_BYTES) {
      const problem = `sharedMemory: expected a message below 4 GiB, got ${bytes.length} bytes`;
      return Promise.reject(new CollectiveError(problem));
    }
    const mask = readers.reduce((bits, reader) => bits | (1 << reader), 0);
    const ringReaders = (): void => {
      for (const reader of readers) this.#ring(reader);
    };
    const writer = new LaneWriter(lane, message, bytes, mask);
    const writeAll = (): boolean => writer.write(ringReaders);
    const waitingFor = readers.length === 1 ? readers[0] : undefined;
    return this.#waiters.wait(waitingFor, writeAll, guard);
  }

  #ring(rank: number): void {
    SharedBell.ring(this.#bellOf(rank));
  }

  #bellOf(rank: number): Int32Array {
    const bell = this.#bells[rank];
    if (bell === undefined) throw new CollectiveError(`sharedMemory: no rank ${rank}`);
    return bell;
  }

  #publishingLane(rank: number): SharedLane {
    return this.#lane(this.#layout.publishingAt(rank), this.#descriptor.publishing);
  }

  #mailboxLane(from: number, to: number): SharedLane {
    return this.#lane(this.#layout.mailboxAt(from, to), this.#descriptor.mailbox);
  }

  /** Views are made once; a lane's writer keeps its count of chunks in its own. */
  #lane(byteOffset: number, shape: LaneShape): SharedLane {
    let lane = this.#lanes.get(byteOffset);
    if (lane === undefined) {
      lane = new SharedLane(this.#descriptor.buffer, byteOffset, shape);
      this.#lanes.set(byteOffset, lane);
    }
    return lane;
  }
}

interface Layout {
  readonly bellsAt: number;
  publishingAt(rank: number): number;
  mailboxAt(from: number, to: number): number;
  readonly sizeBytes: number;
}

/** Byte offsets of the parts: control block, bells, publishing lanes, mailboxes. */
function layoutOf(shape: Omit<SharedMemoryDescriptor, "kind" | "buffer">): Layout {
  const { worldSize, publishing, mailbox } = shape;
  const bellsAt = roundUp(ControlBlock.sizeBytes(worldSize), 64);
  const publishingBase = bellsAt + worldSize * BELL_WORDS * 4;
  const mailboxBase = publishingBase + worldSize * SharedLane.sizeBytes(publishing);
  const mailboxBytes = SharedLane.sizeBytes(mailbox);
  return {
    bellsAt,
    publishingAt: (rank) => publishingBase + rank * SharedLane.sizeBytes(publishing),
    mailboxAt: (from, to) => mailboxBase + (from * worldSize + to) * mailboxBytes,
    sizeBytes: mailboxBase + worldSize * worldSize * mailboxBytes,
  };
}

function open(descriptor: SharedMemoryDescriptor): { bells: Int32Array[]; control: ControlBlock } {
  const { buffer, worldSize } = descriptor;
  const { bellsAt } = layoutOf(descriptor);
  const bells = Array.from(
    { length: worldSize },
    (_, rank) => new Int32Array(buffer, bellsAt + rank * BELL_WORDS * 4, BELL_WORDS),
  );
  return { bells, control: new ControlBlock(buffer, 0, worldSize) };
}
