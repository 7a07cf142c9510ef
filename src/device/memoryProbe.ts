/**
 * How much a device can still allocate. WebGPU does not say, so this allocates until an out-of-memory
 * error scope trips, in ever smaller pieces, and frees it all. Nothing is written, so drivers that commit
 * memory at its first use commit none.
 */
import type { Device } from "./device.ts";

const MIB = 1 << 20;
/** The largest first: 128 GiB are 128 allocations, and the end is found to 64 MiB. */
const PIECES = [1024 * MIB, 256 * MIB, 64 * MIB];
const STORAGE = 0x0080;

/** Bytes that can be allocated now, at most `maxBytes` rounded up to a piece. Not for software adapters: theirs is the host's memory. */
export async function probeFreeBytes(
  { gpu, info }: Pick<Device, "gpu" | "info">,
  maxBytes: number,
): Promise<number> {
  const held: GPUBuffer[] = [];
  let numBytes = 0;
  try {
    for (const piece of PIECES) {
      const size = Math.min(piece, info.limits.maxBufferSize);
      while (numBytes < maxBytes) {
        const buffer = await tryAllocate(gpu, size);
        if (buffer === undefined) break;
        held.push(buffer);
        numBytes += size;
      }
    }
  } finally {
    for (const buffer of held) buffer.destroy();
    // Memory comes back with the queue's next turns, not with destroy().
    for (let turn = 0; turn < 2; turn++) {
      gpu.queue.submit([]);
      await gpu.queue.onSubmittedWorkDone();
    }
  }
  return numBytes;
}

/** Undefined where memory is out. */
async function tryAllocate(gpu: GPUDevice, size: number): Promise<GPUBuffer | undefined> {
  gpu.pushErrorScope("out-of-memory");
  const buffer = gpu.createBuffer({ label: "memory probe", size, usage: STORAGE });
  if ((await gpu.popErrorScope()) === null) return buffer;
  buffer.destroy();
  return undefined;
}
