/** GPU time of a whole pass: a timestamp before its first launch and one after its last. */
import type { Device } from "./device.ts";
import { Staging } from "./staging.ts";

/** Gives compute passes of a timed replay their timestamp writes. */
export interface PassTimer {
  /** All launches of a segment stay in one pass; else each gets a pass of its own. */
  readonly spansPass?: boolean;
  /** The writes of the next pass; undefined for a pass without any. */
  next(label: string): GPUComputePassTimestampWrites | undefined;
}

/** Times a pass of launches that follow each other as they do in a step; no time of the host's is in it. */
export class SpanTimer implements PassTimer {
  readonly spansPass = true;
  readonly #gpu: GPUDevice;
  readonly #queries: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  readonly #staging: Staging;
  /** Passes so far; `readUs` tells of the last. */
  numPasses = 0;

  /** The device must have timestamps. */
  constructor({ gpu }: Device) {
    this.#gpu = gpu;
    this.#queries = gpu.createQuerySet({ type: "timestamp", count: 2 });
    this.#resolved = gpu.createBuffer({
      label: "span",
      size: 16,
      usage: 0x0200 | 0x0004, // QUERY_RESOLVE | COPY_SRC
    });
    this.#staging = new Staging(gpu, 16, "span");
  }

  next(): GPUComputePassTimestampWrites {
    this.numPasses += 1;
    return { querySet: this.#queries, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 };
  }

  /** Microseconds of the last span. */
  async readUs(): Promise<number> {
    const encoder = this.#gpu.createCommandEncoder({ label: "span" });
    encoder.resolveQuerySet(this.#queries, 0, 2, this.#resolved, 0);
    this.#staging.encodeCopy(encoder, this.#resolved, 0, 16);
    this.#gpu.queue.submit([encoder.finish()]);
    const bytes = await this.#staging.map(16);
    const [begin = 0n, end = 0n] = new BigUint64Array(bytes.buffer, bytes.byteOffset, 2);
    this.#staging.unmap();
    return Number(end - begin) / 1000;
  }

  destroy(): void {
    this.#queries.destroy();
    this.#resolved.destroy();
    this.#staging.destroy();
  }
}
