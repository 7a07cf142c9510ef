/**
 * Devices that outlive the executors of a test file. A rank compiles 20 to 30 pipelines, seconds on a
 * software adapter, and most models and layouts share them: a device that is handed on keeps them.
 * What a rank allocated is freed when it gives the device back; ranks never share one at a time.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { type AdapterInfo, Device } from "../../src/device/device.ts";
import { NodeOpener } from "../../src/device/openNode.ts";
import type { DeviceOpener, OpenOptions } from "../../src/device/opener.ts";

// A collected bind group gives its memory back; one that waits for the collector does not, and lavapipe
// takes a memory mapping for each, of which a process has 65,530.
setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** Devices kept; those of larger layouts are opened and closed each time, for the same reason. */
const MAX_FREE = 12;

interface Seat {
  readonly index: number;
  /** "rank 3": the same rank of the next layout wants much the same pipelines. */
  readonly label: string;
  readonly device: PooledDevice;
}

export class DevicePool implements DeviceOpener {
  readonly #opener = new NodeOpener();
  readonly #free: Seat[] = [];
  #adapters: Promise<readonly AdapterInfo[]> | undefined;

  list(): Promise<readonly AdapterInfo[]> {
    this.#adapters ??= this.#opener.list();
    return this.#adapters;
  }

  async open(options: OpenOptions): Promise<Device> {
    const { index, label } = options;
    const candidates = this.#free.filter((seat) => seat.index === index);
    const seat = candidates.find((free) => free.label === label) ?? candidates[0];
    if (seat !== undefined) {
      this.#free.splice(this.#free.indexOf(seat), 1);
      seat.device.lend();
      return seat.device;
    }
    const opened = await this.#opener.open(options);
    const device: PooledDevice = new PooledDevice(opened, () => {
      if (this.#free.length >= MAX_FREE) return false;
      this.#free.push({ index, label, device });
      return true;
    });
    return device;
  }
}

class PooledDevice extends Device {
  readonly #buffers: GPUBuffer[] = [];
  readonly #listeners: ((error: Error) => void)[] = [];
  readonly #giveBack: () => boolean;
  #isLent = true;

  constructor({ gpu, info, shaders, pump }: Device, giveBack: () => boolean) {
    super(gpu, info, shaders, pump);
    this.#giveBack = giveBack;
    super.onFailure((error) => {
      for (const listener of this.#listeners) listener(error);
    });
    const createBuffer = gpu.createBuffer.bind(gpu);
    const keep = (descriptor: GPUBufferDescriptor): GPUBuffer => {
      const buffer = createBuffer(descriptor);
      this.#buffers.push(buffer);
      return buffer;
    };
    Object.defineProperty(gpu, "createBuffer", { value: keep });
  }

  /** Forgotten when the device is given back, as listeners hold on to a whole executor. */
  override onFailure(listener: (error: Error) => void): void {
    this.#listeners.push(listener);
  }

  lend(): void {
    this.#isLent = true;
  }

  /** Waits, frees the memory and gives the device back; a device that failed is not used again. */
  override async destroy(): Promise<void> {
    if (!this.#isLent) return;
    this.#isLent = false;
    const isWell = await this.idle().then(
      () => true,
      () => false,
    );
    if (!isWell) {
      await super.destroy();
      return;
    }
    await this.uploadPool.destroy();
    for (const buffer of this.#buffers.splice(0)) buffer.destroy();
    this.#listeners.length = 0;
    collectGarbage();
    if (!this.#giveBack()) await super.destroy();
  }
}
