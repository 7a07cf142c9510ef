/**
 * Collectives on device memory, recorded and run at replay: a hop is GPU, mapped staging, transport,
 * `writeBuffer` (WebGPU has no device-to-device copy). The bytes and the sums on the host are
 * HostCommunicator's. Tensor dicts, whose shapes a recording cannot know, move at once.
 */
import { bytesOf } from "../common/dtype.ts";
import { CollectiveError } from "../common/errors.ts";
import { ceilDiv } from "../common/math.ts";
import type { Device, Tensor } from "../device/device.ts";
import { liveBytes } from "../device/liveCounts.ts";
import type { Recorder } from "../device/recorder.ts";
import { exchange } from "./allGather.ts";
import type {
  AllToAllResult,
  AllToAllTensors,
  Communicator,
  LiveRows,
  Reduction,
} from "./communicator.ts";
import {
  type DeviceSum,
  recordHostSum,
  recordOneShot,
  recordOneShotOnHost,
} from "./deviceAllReduce.ts";
import {
  canSumOnDevice,
  recordScatterOnDevice,
  recordScatterOnHost,
} from "./deviceReduceScatter.ts";
import { type DeviceWire, isDeviceWire, narrowed, widened } from "./deviceWire.ts";
import { type DeviceDict, downloadDict, uploadDict } from "./deviceTensorDict.ts";
import { bytesOfArray } from "./floats.ts";
import type { HostCommunicator } from "./hostCommunicator.ts";
import { type ChunkRange, chunkRange } from "./schedules.ts";

export class DeviceCommunicator implements Communicator {
  readonly #host: HostCommunicator;

  constructor(host: HostCommunicator) {
    this.#host = host;
  }

  get rank(): number {
    return this.#host.rank;
  }

  get worldSize(): number {
    return this.#host.worldSize;
  }

  allReduce(
    rec: Recorder,
    label: string,
    shape: readonly [rows: number, columns: number],
    produce: (partial: Tensor) => void,
  ): Reduction {
    if (this.worldSize === 1) {
      const sum = rec.alloc(label, shape);
      produce(sum);
      return { tensor: sum, count: 1, strideElements: sum.numElements };
    }
    // By capacity, not by live rows: all ranks of a list then agree, and a list has one shape.
    const bytes = shape[0] * shape[1] * bytesOf("f32");
    const wire = this.#host.wireFor(bytes);
    const sum = { label, shape, produce };
    if (!isDeviceWire(wire, shape[1])) {
      const { algorithm } = this.#host.chooseAlgorithm("allReduce", bytes, "host");
      if (algorithm === "oneShot") return recordOneShotOnHost(this.#host, rec, sum, wire);
      return recordHostSum(this.#host, rec, sum);
    }
    const { algorithm } = this.#host.chooseAlgorithm("allReduce", bytes, "device");
    if (algorithm === "oneShot") return recordOneShot(this.#host, rec, sum, wire);
    if (algorithm === "twoShot") return this.#recordTwoShot(rec, sum, wire);
    return recordHostSum(this.#host, rec, sum);
  }

  /** Each rank's device sums its rows of all partials; then every rank gets all rows. */
  #recordTwoShot(rec: Recorder, { label, shape, produce }: DeviceSum, wire: DeviceWire): Reduction {
    const { worldSize } = this;
    const rows: LiveRows = (live) => live.numTokens;
    const x = rec.alloc(`${label} partial`, shape);
    produce(x);
    const scatter = { label, x, rows };
    const chunk = canSumOnDevice(scatter)
      ? recordScatterOnDevice(this.#host, rec, scatter, wire)
      : recordScatterOnHost(this.#host, rec, scatter);
    const sent = narrowed(rec, label, chunk, wire, (live) => ceilDiv(rows(live), worldSize));
    const tensor = this.allGather(rec, label, sent, rows, shape[0]);
    const gathered = { tensor, count: 1, strideElements: tensor.numElements };
    return widened(rec, label, gathered, shape, rows);
  }

  reduceScatter(rec: Recorder, label: string, x: Tensor, rows: LiveRows): Tensor {
    if (this.worldSize === 1) return x;
    const bytes = x.shape.reduce((size, each) => size * each, bytesOf("f32"));
    const { algorithm } = this.#host.chooseAlgorithm("reduceScatter", bytes, "device");
    const wire = this.#host.wireFor(bytes);
    const scatter = { label, x, rows };
    return algorithm === "oneShot" && canSumOnDevice(scatter) && wire !== "q8"
      ? recordScatterOnDevice(this.#host, rec, scatter, wire)
      : recordScatterOnHost(this.#host, rec, scatter);
  }

  allGather(rec: Recorder, label: string, x: Tensor, rows: LiveRows, capacity: number): Tensor {
    if (this.worldSize === 1) return x;
    const [, columns = 1] = x.shape;
    const out = rec.alloc(label, [capacity, columns], x.dtype);
    const rowBytes = liveBytes(x, 1);
    const rowsOf = (total: number, rank: number): ChunkRange =>
      chunkRange(total, this.worldSize, rank);
    const sizeOf = (total: number, rank: number): number => {
      const { begin, end } = rowsOf(total, rank);
      return (end - begin) * rowBytes;
    };
    rec.hostOp({
      label: `allGather ${label}`,
      downloads: [x],
      downloadBytes: (live) => sizeOf(rows(live), this.rank),
      uploads: [out],
      run: async (io) => {
        const total = rows(io.live);
        const own = await io.download(0);
        const put = (from: number, part: { bytes: Uint8Array; offset: number }): void => {
          if (part.bytes.length === 0) return;
          io.upload(out, part.bytes, rowsOf(total, from).begin * rowBytes + part.offset);
        };
        put(this.rank, { bytes: own, offset: 0 });
        const spec = { name: "allGather", dtype: x.dtype, bytes: total * rowBytes } as const;
        await this.#host.run(spec, (operation) =>
          exchange(operation, own, put, (from) => sizeOf(total, from)),
        );
      },
    });
    return out;
  }

  broadcast(rec: Recorder, label: string, x: Tensor, root: number, rows: LiveRows): void {
    if (this.worldSize === 1) return;
    const isRoot = this.rank === root;
    rec.hostOp({
      label: `broadcast ${label}`,
      downloads: isRoot ? [x] : [],
      downloadBytes: (live) => liveBytes(x, rows(live)),
      uploads: isRoot ? [] : [x],
      run: async (io) => {
        const bytes = liveBytes(x, rows(io.live));
        const spec = { name: "broadcast", dtype: x.dtype, root, bytes } as const;
        const own = isRoot ? await io.download(0) : undefined;
        await this.#host.run(spec, async (operation) => {
          if (own !== undefined) await operation.publish(own);
          else {
            const put = (part: { bytes: Uint8Array; offset: number }): void => {
              if (part.bytes.length > 0) io.upload(x, part.bytes, part.offset);
            };
            await operation.recv(root, put, bytes);
          }
        });
      },
    });
  }

  allToAll(
    rec: Recorder,
    label: string,
    { x, sendRows, maxRows }: AllToAllTensors,
  ): AllToAllResult {
    if (this.worldSize === 1) return { out: x, recvRows: sendRows };
    const [capacity = 0, columns = 1] = x.shape;
    const out = rec.alloc(label, [maxRows, columns], x.dtype);
    const recvRows = rec.alloc(`${label} rows`, [this.worldSize], "u32");
    const rowBytes = liveBytes(x, 1);
    rec.hostOp({
      label: `allToAll ${label}`,
      downloads: [x, sendRows],
      downloadBytes: (_live, index) => (index === 0 ? x : sendRows).sizeBytes,
      uploads: [out, recvRows],
      run: async (io) => {
        const [bytes, counts] = [await io.download(0), await io.download(1)];
        const rows = new Uint32Array(counts.buffer, counts.byteOffset, this.worldSize);
        const parts = await this.#host.allToAll(
          cutRows(label, bytes, rows, rowBytes, capacity),
          x.dtype,
        );
        const total = parts.reduce((sum, part) => sum + part.length / rowBytes, 0);
        if (total > maxRows) {
          throw new CollectiveError(
            `allToAll ${label}: expected up to ${maxRows} rows, got ${total}`,
          );
        }
        let offset = 0;
        for (const part of parts) {
          if (part.length > 0) io.upload(out, part, offset);
          offset += part.length;
        }
        const received = Uint32Array.from(parts, (part) => part.length / rowBytes);
        io.upload(recvRows, bytesOfArray(received));
      },
    });
    return { out, recvRows };
  }

  send(rec: Recorder, label: string, x: Tensor, to: number): void {
    rec.hostOp({
      label: `send ${label}`,
      downloads: [x],
      run: async (io) => {
        await this.#host.send(to, await io.download(0), "f32");
      },
    });
  }

  recv(rec: Recorder, label: string, out: Tensor, from: number): void {
    rec.hostOp({
      label: `recv ${label}`,
      uploads: [out],
      run: async (io) => {
        const expectedBytes = liveBytes(out, io.live.numTokens);
        const upload = ({ bytes, offset }: { bytes: Uint8Array; offset: number }): void => {
          io.upload(out, bytes, offset);
        };
        await this.#host.recv(from, upload, { expectedBytes, dtype: "f32" });
      },
    });
  }

  gather(
    rec: Recorder,
    label: string,
    x: Tensor,
    root: number,
    rows: LiveRows,
    out?: Tensor,
  ): void {
    rec.hostOp({
      label: `gather ${label}`,
      downloads: [x],
      downloadBytes: (live) => liveBytes(x, rows(live)),
      uploads: out === undefined ? [] : [out],
      run: async (io) => {
        if (rows(io.live) === 0) return;
        const parts = await this.#host.gather(await io.download(0), root);
        if (parts === undefined || out === undefined) return;
        for (const [rank, part] of parts.entries()) io.upload(out, part, rank * x.sizeBytes);
      },
    });
  }

  barrier(rec: Recorder, label: string): void {
    if (this.worldSize === 1) return;
    rec.hostOp({ label: `barrier ${label}`, run: () => this.#host.barrier() });
  }

  broadcastBytes(bytes: Uint8Array | undefined, root: number): Promise<Uint8Array> {
    return this.#host.broadcastBytes(bytes, root);
  }

  gatherBytes(own: Uint8Array, root: number): Promise<readonly Uint8Array[] | undefined> {
    return this.#host.gather(own, root);
  }

  /** At once: reads the tensors and sends them with the plain values beside them. */
  async sendTensorDict(device: Device, to: number, dict: DeviceDict): Promise<void> {
    await this.#host.sendTensorDict(to, await downloadDict(device, dict));
  }

  /** At once: tensors of the shapes that arrive; `device.free` them. */
  async recvTensorDict(device: Device, from: number): Promise<DeviceDict> {
    return uploadDict(device, await this.#host.recvTensorDict(from));
  }
}

/** The runs of rows for each rank, in order. Counts come from the GPU, so they are checked. */
function cutRows(
  label: string,
  bytes: Uint8Array,
  rows: Uint32Array,
  rowBytes: number,
  capacity: number,
): Uint8Array[] {
  const total = rows.reduce((sum, count) => sum + count, 0);
  if (total > capacity) {
    throw new CollectiveError(
      `allToAll ${label}: expected up to ${capacity} rows to send, got ${total} in sendRows`,
    );
  }
  let begin = 0;
  return Array.from(rows, (count) => {
    const part = bytes.subarray(begin * rowBytes, (begin + count) * rowBytes);
    begin += count;
    return part;
  });
}
