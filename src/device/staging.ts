/** A kept MAP_READ buffer: device memory is copied into it, mapped, read, unmapped. */
import { DeviceError, messageOf } from "../common/errors.ts";
import { roundUp } from "../common/math.ts";
import type { MapPump } from "./mapPump.ts";

/** Copies and mapped ranges are whole multiples of this. */
const COPY_ALIGNMENT = 8;

export class Staging {
  readonly #buffer: GPUBuffer;
  readonly sizeBytes: number;
  #isPending = false;
  readonly #pump: MapPump | undefined;

  /** Without a pump, maps are awaited as Dawn serves them. */
  constructor(gpu: GPUDevice, sizeBytes: number, label: string, pump?: MapPump) {
    this.#pump = pump;
    this.sizeBytes = Math.max(COPY_ALIGNMENT, roundUp(sizeBytes, COPY_ALIGNMENT));
    this.#buffer = gpu.createBuffer({
      label: `staging ${label}`,
      size: this.sizeBytes,
      usage: 0x0001 | 0x0008, // MAP_READ | COPY_DST
    });
  }

  /** Appends the copy; `sizeBytes` is rounded up to whole u32. */
  encodeCopy(
    encoder: GPUCommandEncoder,
    source: GPUBuffer,
    offset: number,
    sizeBytes: number,
  ): void {
    encoder.copyBufferToBuffer(source, offset, this.#buffer, 0, roundUp(sizeBytes, 4));
  }

  /**
   * Maps and lends the first `sizeBytes`; the view dies at `unmap`. Call once between unmaps. `mayBlock`
   * as in MapPump.
   */
  async map(sizeBytes: number, mayBlock = false): Promise<Uint8Array<ArrayBuffer>> {
    const length = Math.max(COPY_ALIGNMENT, roundUp(sizeBytes, COPY_ALIGNMENT));
    this.#isPending = true;
    try {
      if (this.#pump !== undefined) await this.#pump.map(this.#buffer, length, mayBlock);
      else await this.#buffer.mapAsync(1, 0, length); // GPUMapMode.READ
    } catch (error) {
      throw new DeviceError(`${this.#buffer.label}: cannot be mapped: ${messageOf(error)}`, {
        cause: error,
      });
    } finally {
      this.#isPending = false;
    }
    return new Uint8Array(this.#buffer.getMappedRange(0, length), 0, sizeBytes);
  }

  /** The device is lost: Dawn settles one pending map of it by itself, and aborts over any other. */
  abandon(): void {
    if (this.#isPending) this.#buffer.unmap();
  }

  unmap(): void {
    if (this.#buffer.mapState !== "unmapped") this.#buffer.unmap();
  }

  destroy(): void {
    this.#buffer.destroy();
  }
}
