/** One recorded HostOp with its staging buffers, ready to run each step. */
import type { Device } from "./device.ts";
import type { HostOp, HostOpIo } from "./launch.ts";
import type { LaunchCounts, LiveCounts } from "./liveCounts.ts";
import type { OnSpan, ReplayTrack } from "./replayWatch.ts";
import type { Staging } from "./staging.ts";
import { BlockUploads, type PendingUploads } from "./uploadBlocks.ts";

/** Staging of one run, and the run that last used it. */
export interface StagingSlot {
  readonly staging: readonly Staging[];
  busy: Promise<void>;
}

/**
 * Staging that all operations of a list share but the detached ones: they run one after the other, and
 * each unmaps before the next copies. A buffer each would be gigabytes of pinned memory for a large model.
 */
export function sharedSlot(device: Device, ops: readonly HostOp[]): StagingSlot {
  const sizes: number[] = [];
  for (const { downloads } of ops.filter(({ detached }) => !detached)) {
    downloads.forEach(({ sizeBytes }, index) => {
      sizes[index] = Math.max(sizes[index] ?? 0, sizeBytes);
    });
  }
  const staging = sizes.map((sizeBytes, index) => device.createStaging(sizeBytes, `${index}`));
  return { staging, busy: Promise.resolve() };
}

export class HostOpRun {
  readonly detached: boolean;
  readonly #device: Device;
  readonly #op: HostOp;
  /** A detached operation may still be mapping while the next replays are encoded: it has several. */
  readonly #slots: readonly StagingSlot[];
  /** Absent where no submit follows that could take them along. */
  readonly #uploads: BlockUploads | undefined;
  #current = 0;

  constructor(device: Device, op: HostOp, maxInFlight: number, shared: StagingSlot) {
    this.#device = device;
    this.#op = op;
    this.detached = op.detached;
    this.#slots = op.detached ? ownSlots(device, op, maxInFlight) : [shared];
    this.#uploads = op.detached ? undefined : new BlockUploads(device.gpu, device.uploadPool);
    device.onAbandon(() => {
      for (const { staging } of this.#slots) for (const each of staging) each.abandon();
    });
  }

  /** Resolves when the staging that the next replay will use is free. Call before `encodeCopies`. */
  async nextSlot(): Promise<void> {
    this.#current = (this.#current + 1) % this.#slots.length;
    await this.#slots[this.#current]?.busy;
  }

  /** Whether this replay runs it at all. */
  isNeeded(live: LaunchCounts): boolean {
    return this.#op.isNeeded(live);
  }

  /** Whether this replay downloads anything. */
  hasCopies(live: LiveCounts): boolean {
    return this.#op.downloads.some((_, index) => this.#op.downloadBytes(live, index) > 0);
  }

  /** Appends the copies that `start` will map. */
  encodeCopies(encoder: GPUCommandEncoder, live: LiveCounts): void {
    const slot = this.#slots[this.#current];
    this.#op.downloads.forEach((tensor, index) => {
      const sizeBytes = this.#op.downloadBytes(live, index);
      if (sizeBytes === 0) return;
      slot?.staging[index]?.encodeCopy(encoder, tensor.buffer, tensor.offsetBytes, sizeBytes);
    });
  }

  /** What the operation that has run uploads with the next submit. */
  takeUploads(): PendingUploads | undefined {
    return this.#uploads?.finish();
  }

  /** Runs the operation; its copies have been submitted. Maps are asked for at once. */
  start(live: LiveCounts, onSpan?: OnSpan): Promise<void> {
    const slot = this.#slots[this.#current];
    const running = this.#run(live, slot?.staging ?? [], onSpan);
    if (slot !== undefined) slot.busy = running.catch(() => undefined);
    return running;
  }

  async #run(live: LiveCounts, staged: readonly Staging[], onSpan?: OnSpan): Promise<void> {
    const begin = performance.now();
    const track = this.detached ? "readback" : "operations";
    const mayBlock = !this.detached && this.#device.numReplays === 1;
    const mapped = this.#op.downloads.map((_, index) => {
      const sizeBytes = this.#op.downloadBytes(live, index);
      const map = sizeBytes > 0 ? staged[index]?.map(sizeBytes, mayBlock) : undefined;
      return map ?? Promise.resolve(new Uint8Array(0));
    });
    for (const map of mapped) map.catch(() => undefined); // reported through download()
    const io: HostOpIo = {
      live,
      download: (index) => mapped[index] ?? Promise.resolve(new Uint8Array(0)),
      upload: (tensor, bytes, offsetBytes) => {
        if (this.#uploads?.write(tensor, bytes, offsetBytes) === true) return;
        this.#device.write(tensor, bytes, offsetBytes);
      },
    };
    try {
      await this.#op.run(onSpan === undefined ? io : watched(io, track, onSpan));
    } finally {
      onSpan?.(track, this.#op.label, begin);
      await Promise.allSettled(mapped); // a pending map must not outlive the operation
      for (const staging of staged) staging.unmap();
    }
  }

  /** Frees what is its own. */
  destroy(): void {
    if (this.detached) for (const slot of this.#slots) destroySlot(slot);
  }
}

function ownSlots(device: Device, op: HostOp, count: number): StagingSlot[] {
  return Array.from({ length: count }, () => ({
    staging: op.downloads.map((tensor) => device.createStaging(tensor.sizeBytes, op.label)),
    busy: Promise.resolve(),
  }));
}

export function destroySlot({ staging }: StagingSlot): void {
  for (const buffer of staging) buffer.destroy();
}

/** Reports the two stages that every operation has on its device: waiting for a map, and uploads. */
function watched(io: HostOpIo, track: ReplayTrack, onSpan: OnSpan): HostOpIo {
  const begin = performance.now();
  return {
    live: io.live,
    download: async (index) => {
      const bytes = await io.download(index);
      if (bytes.length > 0) onSpan(track, "map", begin);
      return bytes;
    },
    upload: (tensor, bytes, offsetBytes) => {
      const start = performance.now();
      io.upload(tensor, bytes, offsetBytes);
      onSpan(track, "upload", start);
    },
  };
}
