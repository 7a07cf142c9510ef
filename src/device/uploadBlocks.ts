/**
 * Uploads of host operations by kept MAP_WRITE blocks. The bytes are written once, into mapped memory, and
 * the next submit copies them from there. writeBuffer copies twice, and past 4 MiB between two submits it
 * takes new pinned memory each time: 1.3 GB/s on an H100, where writing into a kept block reaches 5 to 16.
 */
import type { Tensor } from "./tensor.ts";

const BLOCK_BYTES = 4 << 20;
/** Past these a pool falls back to writeBuffer: 512 MiB. */
const MAX_BLOCKS = 128;
/** Smaller uploads are faster by writeBuffer: a block costs a copy command and two calls to map it again. */
export const MIN_BLOCK_UPLOAD_BYTES = 64 << 10;
const COPY_ALIGNMENT = 4;

const MAP_WRITE = 0x0002;
const COPY_SRC = 0x0004;

/** The blocks of one device. */
export class UploadPool {
  readonly #gpu: GPUDevice;
  readonly #free: GPUBuffer[] = [];
  readonly #pending = new Map<GPUBuffer, Promise<void>>();
  #numBlocks = 0;
  #isAbandoned = false;

  constructor(gpu: GPUDevice) {
    this.#gpu = gpu;
  }

  get numBlocks(): number {
    return this.#numBlocks;
  }

  /** A mapped block, or undefined where none is left. */
  take(): GPUBuffer | undefined {
    const free = this.#free.pop();
    if (free !== undefined || this.#numBlocks >= MAX_BLOCKS || this.#isAbandoned) return free;
    this.#numBlocks += 1;
    return this.#gpu.createBuffer({
      label: `upload block ${this.#numBlocks}`,
      size: BLOCK_BYTES,
      usage: MAP_WRITE | COPY_SRC,
      mappedAtCreation: true,
    });
  }

  /** Maps blocks again, once the device has read them. */
  recycle(blocks: readonly GPUBuffer[]): void {
    for (const block of blocks) {
      if (this.#isAbandoned) return;
      const mapped = block.mapAsync(2).then(
        () => {
          this.#pending.delete(block);
          this.#free.push(block);
        },
        () => {
          this.#pending.delete(block); // the device says why it failed
        },
      );
      this.#pending.set(block, mapped);
    }
  }

  /** The device is lost: Dawn settles one pending map of it by itself, and aborts over any other. */
  abandon(): void {
    this.#isAbandoned = true;
    for (const block of this.#pending.keys()) block.unmap();
  }

  /** Resolves when no block waits to be mapped: a device must not be destroyed before. */
  async idle(): Promise<void> {
    await Promise.all(this.#pending.values());
  }

  /** Frees all blocks that no operation holds, once none is pending. */
  async destroy(): Promise<void> {
    await this.idle();
    this.#numBlocks -= this.#free.length;
    for (const block of this.#free.splice(0)) block.destroy();
  }
}

interface Copy {
  readonly block: GPUBuffer;
  readonly from: number;
  readonly target: GPUBuffer;
  readonly to: number;
  sizeBytes: number;
}

/** What one host operation uploads, until it is submitted. */
export class BlockUploads {
  readonly #pool: UploadPool;
  readonly #gpu: GPUDevice;
  readonly #copies: Copy[] = [];
  readonly #blocks: GPUBuffer[] = [];
  #view = new Uint8Array(0);
  #filled = 0;

  constructor(gpu: GPUDevice, pool: UploadPool) {
    this.#gpu = gpu;
    this.#pool = pool;
  }

  /** Takes bytes for `tensor`; a view over shared memory will do. False: writeBuffer is to take them. */
  write(tensor: Tensor, bytes: Uint8Array, offsetBytes = 0): boolean {
    const start = tensor.offsetBytes + offsetBytes;
    const isAligned = start % COPY_ALIGNMENT === 0 && bytes.byteLength % COPY_ALIGNMENT === 0;
    if (!isAligned || bytes.byteLength < MIN_BLOCK_UPLOAD_BYTES) return false;
    for (let at = 0; at < bytes.byteLength;) {
      if (this.#filled === this.#view.byteLength && !this.#nextBlock()) {
        // no block is left: what was not written yet goes the other way
        if (at === 0) return false;
        this.#gpu.queue.writeBuffer(tensor.buffer, start + at, bytes.slice(at));
        return true;
      }
      const room = this.#view.byteLength - this.#filled;
      const part = bytes.subarray(at, at + room);
      this.#view.set(part, this.#filled);
      this.#addCopy(tensor.buffer, start + at, part.byteLength);
      this.#filled += part.byteLength;
      at += part.byteLength;
    }
    return true;
  }

  /** The copies of all writes so far, to be submitted next; undefined if there are none. */
  finish(): PendingUploads | undefined {
    const blocks = this.#blocks.splice(0);
    if (blocks.length === 0) return undefined;
    this.#view = new Uint8Array(0);
    this.#filled = 0;
    for (const block of blocks) block.unmap();
    const encoder = this.#gpu.createCommandEncoder({ label: "uploads" });
    for (const { block, from, target, to, sizeBytes } of this.#copies.splice(0)) {
      encoder.copyBufferToBuffer(block, from, target, to, sizeBytes);
    }
    return {
      commands: encoder.finish(),
      recycle: () => {
        this.#pool.recycle(blocks);
      },
    };
  }

  #nextBlock(): boolean {
    const block = this.#pool.take();
    if (block === undefined) return false;
    this.#blocks.push(block);
    this.#view = new Uint8Array(block.getMappedRange());
    this.#filled = 0;
    return true;
  }

  /** What goes on where the last copy ended makes it longer. */
  #addCopy(target: GPUBuffer, to: number, sizeBytes: number): void {
    const block = this.#blocks.at(-1);
    if (block === undefined) return;
    const last = this.#copies.at(-1);
    const from = this.#filled;
    const goesOn =
      last?.block === block &&
      last.target === target &&
      last.from + last.sizeBytes === from &&
      last.to + last.sizeBytes === to;
    if (goesOn) last.sizeBytes += sizeBytes;
    else this.#copies.push({ block, from, target, to, sizeBytes });
  }
}

/** Copies that are encoded, and what is to be called once they are submitted. */
export interface PendingUploads {
  readonly commands: GPUCommandBuffer;
  readonly recycle: () => void;
}

/** Uploads of one replay on their way: to the next submit, then to be mapped again. */
export class UploadQueue {
  #toSubmit: PendingUploads[] = [];
  #toRecycle: PendingUploads[] = [];

  add(uploads: PendingUploads | undefined): void {
    if (uploads !== undefined) this.#toSubmit.push(uploads);
  }

  /** Commands for the next submit, before its own. */
  take(): GPUCommandBuffer[] {
    const taken = this.#toSubmit.splice(0);
    this.#toRecycle.push(...taken);
    return taken.map(({ commands }) => commands);
  }

  /**
   * Asks for the blocks again. Call it once a download has asked for its map: the map pump (mapPump.ts)
   * takes over Dawn's polling with the first map that is pending.
   */
  recycle(): void {
    for (const { recycle } of this.#toRecycle.splice(0)) recycle();
  }
}
