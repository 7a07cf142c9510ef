/**
 * One rank's handle on a group, for bytes and typed arrays in host memory. The GPU's communicator
 * records on top of it: `exchange`, `send` and `recv` take mapped ranges and lend what arrives.
 *
 * All ranks call the same collectives in the same order. A failure on one rank fails every rank: the
 * first gets the cause, the others a CollectiveAbortedError that quotes it, and the world stays
 * aborted. With worldSize 1 nothing is done, counted or checked.
 */
import { allGatherOneShot, allGatherRing, exchange } from "./allGather.ts";
import { allReduceBy } from "./allReduce.ts";
import { allToAllBytes } from "./allToAll.ts";
import { barrierOneShot } from "./barrier.ts";
import { broadcastBytes, broadcastInto } from "./broadcast.ts";
import type {
  CommunicatorOptions,
  ReduceOptions,
  ReduceScatterOptions,
} from "./communicatorOptions.ts";
import { DebugLog } from "./debugLog.ts";
import { bytesOfArray, floatsOf } from "./floats.ts";
import { gatherBytes } from "./gather.ts";
import type { Operation } from "./operation.ts";
import { OperationRunner, type OperationSpec } from "./operationRunner.ts";
import type { ProcessGroup } from "./processGroup.ts";
import { reduceScatterOneShot, reduceScatterRing } from "./reduceScatter.ts";
import { chunkRanges } from "./segments.ts";
import { recvChunks, sendBytes } from "./sendRecv.ts";
import type { Algorithm, WireDType } from "./signature.ts";
import { dictBytes, recvDict, sendDict, type TensorDict } from "./tensorDict.ts";
import type { Chunk, UseChunk } from "./transport/transport.ts";
import {
  type AlgorithmChoice,
  type AlgorithmQuery,
  chooseAlgorithm,
  requireAlgorithm,
} from "./tuning.ts";
import { FlightRecorder } from "./watchdog/flightRecorder.ts";
import type { WireFormat } from "./wire.ts";

export type { CommunicatorOptions } from "./communicatorOptions.ts";

export class HostCommunicator {
  readonly group: ProcessGroup;
  readonly rank: number;
  readonly worldSize: number;
  readonly name: string;
  readonly recorder: FlightRecorder;
  readonly #runner: OperationRunner;
  readonly #options: CommunicatorOptions;
  readonly #debug: DebugLog;

  constructor(group: ProcessGroup, options: CommunicatorOptions = {}) {
    this.group = group;
    this.rank = group.rankInGroup;
    this.worldSize = group.ranks.length;
    this.name = group.name;
    const worldRank = group.ranks[this.rank] ?? this.rank;
    this.recorder = options.recorder ?? new FlightRecorder(worldRank);
    this.#options = options;
    this.#debug = options.debug ?? new DebugLog(worldRank);
    const { timeoutMs = 30_000, checksums = false } = options;
    this.#runner = new OperationRunner(group, {
      timeoutMs,
      recorder: this.recorder,
      checksums,
      debug: this.#debug,
    });
  }

  /** Sums x over the ranks, in place; returns x. */
  async allReduce(x: Float32Array, options: ReduceOptions = {}): Promise<Float32Array> {
    if (this.worldSize === 1) return x;
    const bytes = x.byteLength;
    const algorithm = this.#choose("allReduce", bytes, options.algorithm);
    const wire = options.wire ?? this.wireFor(bytes);
    await this.run({ name: "allReduce", algorithm, dtype: wire, bytes }, (operation) =>
      allReduceBy(algorithm, operation, x, { ...options, wire }),
    );
    return x;
  }

  /** Returns this rank's chunk (chunkRanges) of the sum, a part of x; the rest of x is used up. */
  async reduceScatter(x: Float32Array, options: ReduceScatterOptions = {}): Promise<Float32Array> {
    const bytes = x.byteLength;
    if (this.worldSize > 1) {
      const algorithm = this.#choose("reduceScatter", bytes, options.algorithm);
      const wire = options.wire ?? this.wireFor(bytes);
      const reduce = algorithm === "ring" ? reduceScatterRing : reduceScatterOneShot;
      await this.run({ name: "reduceScatter", algorithm, dtype: wire, bytes }, (operation) =>
        reduce(operation, x, { ...options, wire }),
      );
    }
    const chunk = chunkRanges(x.length, this.worldSize, options.unit)[this.rank];
    return x.subarray(chunk?.begin, chunk?.end);
  }

  /** The other half of an all-reduce: x holds this rank's chunk (chunkRanges), and all afterwards. */
  async allGatherChunks(
    x: Float32Array,
    { wire = "f32", ...options }: Omit<ReduceScatterOptions, "algorithm"> = {},
  ): Promise<Float32Array> {
    if (this.worldSize === 1) return x;
    const bytes = x.byteLength;
    await this.run({ name: "allGather", algorithm: "ring", dtype: wire, bytes }, (operation) =>
      allGatherRing(operation, x, { ...options, wire }),
    );
    return x;
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

  /** parts[r] goes to rank r; returns what each rank sent here, in rank order. Sizes may differ. */
  async allToAll(parts: readonly Uint8Array[], dtype: WireDType = "u8"): Promise<Uint8Array[]> {
    if (this.worldSize === 1) return [...parts];
    const ownBytes = parts.reduce((sum, part) => sum + part.length, 0);
    return this.run({ name: "allToAll", dtype, ownBytes, numParts: parts.length }, (operation) =>
      allToAllBytes(operation, parts),
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
    const pair = { from: this.rank, to };
    await this.run({ name: "send", dtype, bytes: bytes.length, pair }, (operation) =>
      sendBytes(operation, to, bytes),
    );
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

  /** Named tensors and plain values; the receiver need not know shapes or names. */
  async sendTensorDict(to: number, dict: TensorDict): Promise<void> {
    const pair = { from: this.rank, to };
    const ownBytes = dictBytes(dict);
    await this.run({ name: "sendTensorDict", ownBytes, pair }, (operation) =>
      sendDict((bytes) => operation.send(to, bytes), dict),
    );
  }

  async recvTensorDict(from: number): Promise<TensorDict> {
    const pair = { from, to: this.rank };
    return this.run({ name: "sendTensorDict", pair }, (operation) => recvDict(operation, from));
  }

  /** The root's dict on every rank; the others give nothing. */
  async broadcastTensorDict(dict: TensorDict | undefined, root: number): Promise<TensorDict> {
    if (this.worldSize === 1) return dict ?? {};
    const ownBytes = dictBytes(dict ?? {});
    return this.run({ name: "sendTensorDict", root, ownBytes }, async (operation) => {
      if (this.rank !== root) return recvDict(operation, root);
      await sendDict((bytes) => operation.publish(bytes), dict ?? {});
      return dict ?? {};
    });
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

  /** What `allReduce` or `reduceScatter` of so many bytes goes by, and why: summed here or on devices. */
  chooseAlgorithm(
    name: AlgorithmQuery["name"],
    bytes: number,
    memory: AlgorithmQuery["memory"],
  ): AlgorithmChoice {
    const { kind, hosts } = this.group.transport;
    const { worldSize } = this;
    const choice = chooseAlgorithm({
      ...{ name, bytes, worldSize, memory, transport: kind },
      numHosts: new Set(hosts).size,
      override: this.#options.algorithm,
    });
    const sizeClass = bytes === 0 ? 0 : 2 ** Math.floor(Math.log2(bytes));
    this.#debug.sayOnce(`${name} ${memory} ${sizeClass}`, "INFO", "TUNING", () => {
      const wire = this.wireFor(bytes);
      return `${name} of ${bytes} bytes in group ${this.name} (${worldSize} ranks, ${kind}): ${choice.algorithm}, ${wire}: ${choice.reason}`;
    });
    return choice;
  }

  /** How a sum of so many bytes travels. */
  wireFor(bytes: number): WireFormat {
    const { wire = "f32", wireFromBytes = 0 } = this.#options;
    return bytes >= wireFromBytes ? wire : "f32";
  }

  #choose(
    name: AlgorithmQuery["name"],
    bytes: number,
    asked: Algorithm | "auto" | undefined,
  ): Algorithm {
    if (asked !== undefined && asked !== "auto") {
      requireAlgorithm(name, asked);
      return asked;
    }
    return this.chooseAlgorithm(name, bytes, "host").algorithm;
  }
}
