/**
 * Collectives on device memory, recorded and run at replay: a hop is GPU, mapped staging, transport,
 * `writeBuffer` (WebGPU has no device-to-device copy). The bytes and the sums on the host are
 * HostCommunicator's.
 */
import { bytesOf } from "../common/dtype.ts";
import { roundUp } from "../common/math.ts";
import type { Tensor } from "../device/device.ts";
import type { HostOpIo } from "../device/launch.ts";
import { liveBytes } from "../device/liveCounts.ts";
import type { Recorder } from "../device/recorder.ts";
import { OFFSET_ALIGNMENT } from "../device/tensor.ts";
import type { Communicator, LiveRows, Reduction } from "./communicator.ts";
import type { HostCommunicator } from "./hostCommunicator.ts";

const F32_BYTES = bytesOf("f32");

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
    const algorithm = this.#host.allReduceAlgorithm(shape[0] * shape[1] * F32_BYTES);
    return algorithm === "oneShot"
      ? this.#oneShot(rec, label, shape, produce)
      : this.#reduced(rec, label, shape, produce);
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

  broadcastBytes(bytes: Uint8Array | undefined, root: number): Promise<Uint8Array> {
    return this.#host.broadcastBytes(bytes, root);
  }

  gatherBytes(own: Uint8Array, root: number): Promise<readonly Uint8Array[] | undefined> {
    return this.#host.gather(own, root);
  }

  /** Every rank publishes its partial; each ends with all of them, to be summed in rank order. */
  #oneShot(
    rec: Recorder,
    label: string,
    [rows, columns]: readonly [number, number],
    produce: (partial: Tensor) => void,
  ): Reduction {
    // each partial starts where a binding may
    const strideBytes = roundUp(rows * columns * F32_BYTES, OFFSET_ALIGNMENT);
    const strideElements = strideBytes / F32_BYTES;
    const partials = rec.alloc(label, [this.worldSize, strideElements]);
    const own = partials.view([rows, columns], this.rank * strideElements);
    produce(own);
    rec.hostOp({
      label: `allReduce ${label}`,
      downloads: [own],
      uploads: [partials],
      run: async (io) => {
        await this.#host.exchange(await io.download(0), (from, { bytes, offset }) => {
          io.upload(partials, bytes, from * strideBytes + offset);
        });
      },
    });
    return { tensor: partials, count: this.worldSize, strideElements };
  }

  /** Summed on the host by a ring; each rank ends with the whole sum. */
  #reduced(
    rec: Recorder,
    label: string,
    shape: readonly [number, number],
    produce: (partial: Tensor) => void,
  ): Reduction {
    const partial = rec.alloc(`${label} partial`, shape);
    const sum = rec.alloc(label, shape);
    const host = new Float32Array(partial.numElements);
    produce(partial);
    rec.hostOp({
      label: `allReduce ${label}`,
      downloads: [partial],
      uploads: [sum],
      run: async (io) => {
        await this.#reduceOnHost(io, host, sum);
      },
    });
    return { tensor: sum, count: 1, strideElements: sum.numElements };
  }

  async #reduceOnHost(io: HostOpIo, host: Float32Array, sum: Tensor): Promise<void> {
    const mapped = await io.download(0);
    const live = host.subarray(0, mapped.byteLength / F32_BYTES);
    live.set(new Float32Array(mapped.buffer, mapped.byteOffset, live.length));
    await this.#host.allReduce(live, { algorithm: "ring" });
    io.upload(sum, new Uint8Array(live.buffer, live.byteOffset, live.byteLength));
  }
}
