/**
 * One rank's handle on a group, for bytes and typed arrays in host memory. The GPU's communicator
 * records on top of it: `exchange`, `send` and `recv` take mapped ranges and lend what arrives.
 *
 * All ranks call the same collectives in the same order. A failure on one rank fails every rank: the
 * first gets the cause, the others a CollectiveAbortedError that quotes it, and the world stays
 * aborted. With worldSize 1 nothing is done, counted or checked.
 */
import { allGatherOneShot, exchange } from "./allGather.ts";
import { allReduceOneShot, allReduceRing } from "./allReduce.ts";
import { barrierOneShot } from "./barrier.ts";
import { broadcastBytes, broadcastInto } from "./broadcast.ts";
import { bytesOfArray, floatsOf } from "./floats.ts";
import { gatherBytes } from "./gather.ts";
import type { Operation } from "./operation.ts";
import { OperationRunner, type OperationSpec } from "./operationRunner.ts";
import type { ProcessGroup } from "./processGroup.ts";
import { reduceScatterRing } from "./reduceScatter.ts";
import { chunkRange } from "./schedules.ts";
import { recvChunks, sendBytes } from "./sendRecv.ts";
import type { Algorithm, WireDType } from "./signature.ts";
import type { Chunk, UseChunk } from "./transport/transport.ts";
import { chooseAlgorithm } from "./tuning.ts";
import { FlightRecorder } from "./watchdog/flightRecorder.ts";

export interface CommunicatorOptions {
  /** Deadline of one operation. */
  readonly timeoutMs?: number;
  /** Shared by the groups of a rank. */
  readonly recorder?: FlightRecorder;
}

export interface AllReduceOptions {
  readonly algorithm?: Algorithm | "auto";
}

export class HostCommunicator {
  readonly group: ProcessGroup;
  readonly rank: number;
  readonly worldSize: number;
  readonly name: string;
  readonly recorder: FlightRecorder;
  readonly #runner: OperationRunner;

  constructor(group: ProcessGroup, { timeoutMs = 30_000, recorder }: CommunicatorOptions = {}) {
    this.group = group;
    this.rank = group.rankInGroup;
    this.worldSize = group.ranks.length;
    this.name = group.name;
    this.recorder = recorder ?? new FlightRecorder(group.ranks[this.rank] ?? this.rank);
    this.#runner = new OperationRunner(group, timeoutMs, this.recorder);
  }

  /** Sums x over the ranks, in place; returns x. */
  async allReduce(
    x: Float32Array,
    { algorithm = "auto" }: AllReduceOptions = {},
  ): Promise<Float32Array> {
    if (this.worldSize === 1) return x;
    const chosen = algorithm === "auto" ? this.allReduceAlgorithm(x.byteLength) : algorithm;
    const reduce = chosen === "ring" ? allReduceRing : allReduceOneShot;
    const bytes = x.byteLength;
    await this.run({ name: "allReduce", algorithm: chosen, dtype: "f32", bytes }, (operation) =>
      reduce(operation, x),
    );
    return x;
  }

  /** Returns this rank's chunk (chunkRange) of the sum; x is used up. */
  async reduceScatter(x: Float32Array): Promise<Float32Array> {
    const bytes = x.byteLength;
    if (this.worldSize > 1) {
      await this.run(
        { name: "reduceScatter", algorithm: "ring", dtype: "f32", bytes },
        (operation) => reduceScatterRing(operation, x),
      );
    }
    const { begin, end } = chunkRange(x.length, this.worldSize, this.rank);
    return x.subarray(begin, end);
  }

  /** All ranks' x one after the other; sizes may differ. */
  async allGather(x: Float32Array): Promise<Float32Array> {
    if (this.worldSize === 1) return x;
    const parts = (await this.allGatherBytes(bytesOfArray(x), "f32")).map(floatsOf);
    const all = new Float32Array(parts.reduce((length, part) => length + part.length, 0));
    let begin = 0;
    for (const part of parts) {
      all.set(part, begin);
      begin += part.length;
    }
    return all;
  }

  /** Every rank's bytes, in rank order; sizes may differ. */
  async allGatherBytes(own: Uint8Array, dtype: WireDType = "u8"): Promise<Uint8Array[]> {
    if (this.worldSize === 1) return [own];
    return this.run({ name: "allGather", dtype, ownBytes: own.length }, (operation) =>
      allGatherOneShot(operation, own),
    );
  }

  /**
   * The one-shot path of a device: publishes this rank's partial and lends every other rank's, in order
   * of arrival, in chunks. `own` may be reused, e.g. unmapped, once it resolves.
   */
  async exchange(
    own: Uint8Array,
    usePart: (from: number, chunk: Chunk) => void,
    spec: Omit<OperationSpec, "bytes" | "pair"> = { name: "allReduce", dtype: "f32" },
  ): Promise<void> {
    if (this.worldSize === 1) return;
    const bytes = own.length;
    await this.run({ ...spec, bytes }, (operation) => exchange(operation, own, usePart, bytes));
  }

  /** Every rank's x becomes the root's; returns x. */
  async broadcast<T extends ArrayBufferView>(x: T, root: number): Promise<T> {
    if (this.worldSize === 1) return x;
    const bytes = bytesOfArray(x);
    await this.run({ name: "broadcast", root, bytes: bytes.length }, (operation) =>
      broadcastInto(operation, bytes, root),
    );
    return x;
  }

  /** The root's bytes, whose size only the root knows; the others give undefined. */
  async broadcastBytes(bytes: Uint8Array | undefined, root: number): Promise<Uint8Array> {
    if (this.worldSize === 1) return bytes ?? new Uint8Array(0);
    return this.run({ name: "broadcast", root, ownBytes: bytes?.length }, (operation) =>
      broadcastBytes(operation, bytes, root),
    );
  }

  /** On the root every rank's bytes, in rank order; sizes may differ. Undefined elsewhere. */
  async gather(own: Uint8Array, root: number): Promise<Uint8Array[] | undefined> {
    if (this.worldSize === 1) return [own];
    return this.run({ name: "gather", root, ownBytes: own.length }, (operation) =>
      gatherBytes(operation, own, root),
    );
  }

  /** Resolves when `bytes` may be reused; start the other rank's recv before awaiting it. */
  async send(to: number, bytes: Uint8Array, dtype: WireDType = "u8"): Promise<void> {
    const spec = {
      name: "send",
      dtype,
      bytes: bytes.length,
      pair: { from: this.rank, to },
    } as const;
    await this.run(spec, (operation) => sendBytes(operation, to, bytes));
  }

  /** Lends the next message of `from`, in chunks; `expectedBytes` undefined takes any size. */
  async recv(
    from: number,
    use: UseChunk,
    { expectedBytes, dtype = "u8" }: { expectedBytes?: number; dtype?: WireDType } = {},
  ): Promise<void> {
    const pair = { from, to: this.rank };
    await this.run({ name: "send", dtype, bytes: expectedBytes, pair }, (operation) =>
      recvChunks(operation, from, use, expectedBytes),
    );
  }

  /** The next message of `from`, copied. */
  async recvBytes(from: number, dtype: WireDType = "u8"): Promise<Uint8Array<ArrayBuffer>> {
    const pair = { from, to: this.rank };
    return this.run({ name: "send", dtype, pair }, (operation) => operation.recvBytes(from));
  }

  /** Ends once every rank has begun it. */
  async barrier(): Promise<void> {
    if (this.worldSize === 1) return;
    await this.run({ name: "barrier", bytes: 0 }, barrierOneShot);
  }

  /** Runs any exchange of messages as one operation of the group, e.g. one that sums on a device. */
  run<T>(spec: OperationSpec, body: (operation: Operation) => Promise<T>): Promise<T> {
    return this.#runner.run(spec, body);
  }

  /** The algorithm that `allReduce` would take for so many bytes. */
  allReduceAlgorithm(bytes: number): Algorithm {
    const { kind } = this.group.transport;
    const { worldSize } = this;
    return chooseAlgorithm({ name: "allReduce", bytes, worldSize, transport: kind });
  }
}
