/** One GPUDevice: memory, pipelines, recordings, and its errors turned into exceptions. */
import { bytesOf, type DType } from "../common/dtype.ts";
import {
  DeviceError,
  DeviceLostError,
  messageOf,
  OutOfMemoryError,
  TandemError,
} from "../common/errors.ts";
import { product, roundUp } from "../common/math.ts";
import type { AdapterInfo } from "./adapterInfo.ts";
import { CommandList } from "./commandList.ts";
import { type LiveCounts, liveRows } from "./liveCounts.ts";
import type { MapPump } from "./mapPump.ts";
import { PipelineCache } from "./pipelineCache.ts";
import { Recorder, type TapSink } from "./recorder.ts";
import { Staging } from "./staging.ts";
import { Tensor, TensorStorage } from "./tensor.ts";
import { LaunchTimer } from "./timestamps.ts";
import { UploadPool } from "./uploadBlocks.ts";

export type { AdapterInfo } from "./adapterInfo.ts";
export { expectDType, expectShape, Tensor } from "./tensor.ts";

/** One writeBuffer takes at most this much, so that a large upload never doubles in host memory. */
const UPLOAD_CHUNK_BYTES = 4 << 20;

/** WGSL text by path under shaders/, e.g. "lib/block_sum.wgsl". */
export type ShaderLibrary = (path: string) => string;

/** Objects created so far; a steady-state step leaves buffers, bindGroups and pipelines as they are. */
export interface DeviceCounters {
  buffers: number;
  bindGroups: number;
  launches: number;
  submits: number;
  allocatedBytes: number;
}

export class Device {
  readonly gpu: GPUDevice;
  readonly info: AdapterInfo;
  readonly shaders: ShaderLibrary;
  readonly pipelines: PipelineCache;
  readonly pump: MapPump | undefined;
  readonly uploadPool: UploadPool;
  /** Under way; with more than one, none may stop the thread for a map. */
  numReplays = 0;
  readonly counters: DeviceCounters = {
    buffers: 0,
    bindGroups: 0,
    launches: 0,
    submits: 0,
    allocatedBytes: 0,
  };
  readonly #liveLayout: GPUBindGroupLayout;
  readonly #onFailure: ((error: Error) => void)[] = [];
  readonly #onAbandon: (() => void)[] = [];
  #failure: Error | undefined;
  #destroyed = false;
  #timer: LaunchTimer | undefined;

  /** Without a pump, maps are awaited as the platform serves them. */
  constructor(gpu: GPUDevice, info: AdapterInfo, shaders: ShaderLibrary, pump?: MapPump) {
    this.pump = pump;
    this.gpu = gpu;
    this.info = info;
    this.shaders = shaders;
    this.#liveLayout = gpu.createBindGroupLayout({
      label: "live counts",
      entries: [{ binding: 0, visibility: 4, buffer: { type: "uniform" } }],
    });
    this.pipelines = new PipelineCache(gpu, this.#liveLayout);
    this.uploadPool = new UploadPool(gpu);
    gpu.addEventListener("uncapturederror", (event) => {
      this.fail(new DeviceError(`${info.name}: ${event.error.message}`));
    });
    void gpu.lost.then(({ reason, message }) => {
      if (!this.#destroyed)
        this.fail(new DeviceLostError(`${info.name} lost (${reason}): ${message}`));
    });
  }

  /** Records the first failure, calls the listeners; every later call on the device throws it. */
  fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    const failure = error instanceof Error ? error : new DeviceError(messageOf(error));
    this.#failure = failure;
    this.abandonMaps();
    for (const listener of this.#onFailure) listener(failure);
  }

  /** Calls `listener` on the device's first failure, at once if it has already failed. */
  onFailure(listener: (error: Error) => void): void {
    if (this.#failure === undefined) this.#onFailure.push(listener);
    else listener(this.#failure);
  }

  /** Calls `listener` when maps must be given up: Dawn aborts the process over one that nobody settles. */
  onAbandon(listener: () => void): void {
    this.#onAbandon.push(listener);
  }

  abandonMaps(): void {
    this.uploadPool.abandon();
    for (const listener of this.#onAbandon) listener();
  }

  /** Throws the device's first failure, if any. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#destroyed) throw new DeviceError(`${this.info.name}: used after destroy()`);
  }

  /** Runs `work` inside error scopes: what WebGPU finds wrong with it is thrown here. */
  async guard<T>(what: string, work: () => T): Promise<T> {
    this.check();
    this.gpu.pushErrorScope("out-of-memory");
    this.gpu.pushErrorScope("validation");
    let result: T | undefined;
    let thrown: unknown;
    try {
      result = work();
    } catch (error) {
      thrown = error;
    }
    const invalid = await this.gpu.popErrorScope();
    const outOfMemory = await this.gpu.popErrorScope();
    if (thrown instanceof TandemError) throw thrown;
    if (outOfMemory) throw new OutOfMemoryError(`${what}: ${outOfMemory.message}`);
    if (invalid) throw new DeviceError(`${what}: ${invalid.message}`);
    if (thrown !== undefined)
      throw new DeviceError(`${what}: ${messageOf(thrown)}`, { cause: thrown });
    return result as T;
  }

  // Memory ----------------------------------------------------------------------------------

  createBuffer(sizeBytes: number, label: string, more = 0): GPUBuffer {
    const limit = this.info.limits.maxBufferSize;
    if (sizeBytes > limit) {
      throw new OutOfMemoryError(
        `${label}: takes ${sizeBytes} bytes; a buffer on ${this.info.name} ends at ${limit}`,
      );
    }
    return this.#createBuffer(sizeBytes, 0x0080 | 0x0008 | 0x0004 | more, label); // STORAGE | COPY_DST | COPY_SRC
  }

  createUniform(sizeBytes: number, label: string): GPUBuffer {
    return this.#createBuffer(sizeBytes, 0x0040 | 0x0008, label); // UNIFORM | COPY_DST
  }

  createStaging(sizeBytes: number, label: string): Staging {
    this.counters.buffers += 1;
    return new Staging(this.gpu, sizeBytes, label, this.pump);
  }

  /** A tensor with a buffer of its own; WebGPU zeroes it. `more`: further usages of the buffer. */
  empty(shape: readonly number[], dtype: DType = "f32", label = "tensor", more = 0): Tensor {
    const sizeBytes = product(shape) * bytesOf(dtype);
    const buffer = this.createBuffer(Math.max(4, roundUp(sizeBytes, 4)), label, more);
    return new Tensor(new TensorStorage(sizeBytes, label, buffer), shape, dtype);
  }

  /** A tensor with these elements. f16 and bf16 come as raw bit patterns (Uint16Array). */
  upload(
    data: Float32Array | Uint32Array | Int32Array | Uint16Array | Uint8Array,
    shape: readonly number[],
    dtype: DType = "f32",
    label = "tensor",
  ): Tensor {
    const tensor = this.empty(shape, dtype, label);
    this.write(tensor, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    return tensor;
  }

  /** Writes bytes into a tensor. Views over shared memory and odd tails are copied first. */
  write(tensor: Tensor, bytes: Uint8Array, offsetBytes = 0): void {
    const start = tensor.offsetBytes + offsetBytes;
    for (let at = 0; at < bytes.byteLength; at += UPLOAD_CHUNK_BYTES) {
      const chunk = bytes.subarray(at, at + UPLOAD_CHUNK_BYTES);
      this.gpu.queue.writeBuffer(tensor.buffer, start + at, writable(chunk));
    }
  }

  /** Frees a tensor made by `empty` or `upload`; work submitted so far may still use it. */
  free(tensor: Tensor): void {
    this.counters.allocatedBytes -= tensor.buffer.size;
    tensor.buffer.destroy();
  }

  /** Reads a whole f32 tensor (for tests and tools; steps read through host operations). */
  async read(tensor: Tensor): Promise<Float32Array<ArrayBuffer>> {
    return new Float32Array(await this.readBytes(tensor));
  }

  /** Reads a whole tensor's bytes, rounded up to whole u32. */
  async readBytes(tensor: Tensor): Promise<ArrayBuffer> {
    const sizeBytes = roundUp(tensor.sizeBytes, 4);
    const staging = this.createStaging(sizeBytes, tensor.label);
    try {
      const encoder = this.gpu.createCommandEncoder({ label: `read ${tensor.label}` });
      staging.encodeCopy(encoder, tensor.buffer, tensor.offsetBytes, sizeBytes);
      this.gpu.queue.submit([encoder.finish()]);
      const copy = (await staging.map(sizeBytes)).slice();
      this.check();
      return copy.buffer;
    } catch (error) {
      this.check();
      throw error;
    } finally {
      staging.unmap();
      staging.destroy();
    }
  }

  // Recording -------------------------------------------------------------------------------

  /** Collects what `forward` launches; nothing reaches the GPU yet. */
  record(forward: (rec: Recorder) => void, tapSink?: TapSink): Recorder {
    this.check();
    const recorder = new Recorder(this, tapSink);
    forward(recorder);
    return recorder;
  }

  /** Compiles and places what was recorded. The caller writes a replay's counts to `live`, if given; see CommandList. */
  async finish(recorder: Recorder, maxInFlight = 1, live?: Tensor): Promise<CommandList> {
    return await CommandList.finish(this, recorder.ops, maxInFlight, live);
  }

  /** Records `forward`, replays it once and waits. By default every row of it is live. */
  async run(forward: (rec: Recorder) => void, live: LiveCounts = liveRows(0)): Promise<void> {
    const list = await this.finish(this.record(forward));
    try {
      await list.replay(live);
      await list.detached;
      await this.idle();
    } finally {
      list.destroy();
    }
  }

  /** Resolves when the GPU has done all that was submitted; throws what it found wrong. */
  async idle(): Promise<void> {
    await this.gpu.queue.onSubmittedWorkDone();
    this.check();
  }

  /** The timer for profiled replays; throws where the adapter has no timestamps. */
  timer(): LaunchTimer {
    if (!this.info.hasTimestamps) {
      throw new DeviceError(
        `${this.info.name}: has no timestamp-query; profile on another adapter`,
      );
    }
    this.#timer ??= new LaunchTimer(this.gpu);
    return this.#timer;
  }

  createBindGroup(
    label: string,
    layout: GPUBindGroupLayout,
    entries: GPUBindGroupEntry[],
  ): GPUBindGroup {
    this.counters.bindGroups += 1;
    return this.gpu.createBindGroup({ label, layout, entries });
  }

  createLiveGroup(resource: GPUBufferBinding): GPUBindGroup {
    return this.createBindGroup("live counts", this.#liveLayout, [{ binding: 0, resource }]);
  }

  /** Waits for the GPU, then frees the device and all its buffers. Safe to call twice. */
  async destroy(): Promise<void> {
    if (this.#destroyed) return;
    this.#destroyed = true;
    await this.gpu.queue.onSubmittedWorkDone().catch(() => undefined);
    await this.uploadPool.destroy();
    this.#timer?.destroy();
    this.gpu.destroy();
  }

  #createBuffer(size: number, usage: number, label: string): GPUBuffer {
    this.counters.buffers += 1;
    this.counters.allocatedBytes += size;
    return this.gpu.createBuffer({ label, size, usage });
  }
}

/** Bytes that writeBuffer can take: not over shared memory (Dawn on Node crashes), whole u32. */
function writable(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const isPlain = bytes.buffer instanceof ArrayBuffer && bytes.byteLength % 4 === 0;
  if (isPlain) return bytes as Uint8Array<ArrayBuffer>;
  const copy = new Uint8Array(roundUp(bytes.byteLength, 4));
  copy.set(bytes);
  return copy;
}
