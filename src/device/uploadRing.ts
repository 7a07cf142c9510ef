/**
 * Uploads by kept MAP_WRITE buffers: whoever has the bytes writes them straight into mapped memory, several at
 * once, and the device copies them from there. One copy on the host where writeBuffer takes two.
 */
import { DeviceError, messageOf } from "../common/errors.ts";
import { roundUp } from "../common/math.ts";
import type { Device, Tensor } from "./device.ts";

/** Writes all of `into`. */
export type Fill = (into: Uint8Array) => Promise<void>;

/** 14 GB/s on an H200 with one buffer and one copy; enough of them keep several reads under way. */
const DEFAULT_SLOTS = 8;
const DEFAULT_SLOT_BYTES = 8 << 20;

export class UploadRing {
  /** The longest upload. */
  readonly slotBytes: number;
  readonly #device: Device;
  readonly #numSlots: number;
  readonly #free: GPUBuffer[] = [];
  readonly #buffers: GPUBuffer[] = [];
  readonly #waiting: ((slot: GPUBuffer) => void)[] = [];
  readonly #running = new Set<Promise<void>>();
  #failure: Error | undefined;

  constructor(device: Device, slotBytes = DEFAULT_SLOT_BYTES, numSlots = DEFAULT_SLOTS) {
    this.#device = device;
    this.slotBytes = roundUp(slotBytes, 16);
    this.#numSlots = numSlots;
  }

  /**
   * Waits for a free buffer, then goes on while `fill` writes `sizeBytes` (a multiple of 4) for the tensor's
   * bytes from `offsetBytes` on. Throws what an earlier upload failed with.
   */
  async upload(tensor: Tensor, offsetBytes: number, sizeBytes: number, fill: Fill): Promise<void> {
    const slot = await this.#acquire();
    if (this.#failure !== undefined) {
      this.#release(slot);
      await this.finish();
    }
    const running = this.#run(slot, tensor, offsetBytes, sizeBytes, fill).catch(
      (error: unknown) => {
        this.#failure ??= error instanceof Error ? error : new DeviceError(messageOf(error));
      },
    );
    this.#running.add(running);
    void running.finally(() => this.#running.delete(running));
  }

  /** Resolves when all uploads so far are on their way to the device; throws what the first one failed with. */
  async finish(): Promise<void> {
    await Promise.all(this.#running);
    if (this.#failure !== undefined) throw this.#failure;
    this.#device.check();
  }

  /** Waits for what still writes into mapped memory, then frees it. */
  async destroy(): Promise<void> {
    await Promise.all(this.#running);
    for (const buffer of this.#buffers) buffer.destroy();
  }

  async #run(
    slot: GPUBuffer,
    tensor: Tensor,
    offsetBytes: number,
    sizeBytes: number,
    fill: Fill,
  ): Promise<void> {
    try {
      if (slot.mapState === "unmapped") await slot.mapAsync(2, 0, this.slotBytes); // GPUMapMode.WRITE
      await fill(new Uint8Array(slot.getMappedRange(0, roundUp(sizeBytes, 8)), 0, sizeBytes));
      slot.unmap();
      const { gpu } = this.#device;
      const encoder = gpu.createCommandEncoder({ label: `upload ${tensor.label}` });
      const start = tensor.offsetBytes + offsetBytes;
      encoder.copyBufferToBuffer(slot, 0, tensor.buffer, start, sizeBytes);
      gpu.queue.submit([encoder.finish()]);
    } finally {
      if (slot.mapState === "mapped") slot.unmap(); // a range can be taken once a mapping
      this.#release(slot);
    }
  }

  #acquire(): Promise<GPUBuffer> {
    const free = this.#free.shift();
    if (free !== undefined) return Promise.resolve(free);
    if (this.#buffers.length < this.#numSlots) {
      const buffer = this.#device.gpu.createBuffer({
        label: `upload ${this.#buffers.length}`,
        size: this.slotBytes,
        usage: 0x0002 | 0x0004, // MAP_WRITE | COPY_SRC
        mappedAtCreation: true,
      });
      this.#buffers.push(buffer);
      return Promise.resolve(buffer);
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** The oldest of those that wait takes the slot; it is mapped again once the device has read it. */
  #release(slot: GPUBuffer): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free.push(slot);
    else next(slot);
  }
}
