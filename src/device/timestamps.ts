/** GPU time per launch: each launch gets a compute pass of its own with a timestamp before and after. */
import { Staging } from "./staging.ts";

/** WebGPU's limit for one query set. */
const MAX_QUERIES = 4096;

/** GPU time of one launch. */
export interface LaunchTime {
  readonly label: string;
  readonly timeUs: number;
}

/** Times up to 2,048 launches of one replay. */
export class LaunchTimer {
  readonly #gpu: GPUDevice;
  readonly #queries: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  readonly #staging: Staging;
  readonly #labels: string[] = [];

  constructor(gpu: GPUDevice) {
    this.#gpu = gpu;
    this.#queries = gpu.createQuerySet({ type: "timestamp", count: MAX_QUERIES });
    this.#resolved = gpu.createBuffer({
      label: "timestamps",
      size: MAX_QUERIES * 8,
      usage: 0x0200 | 0x0004, // QUERY_RESOLVE | COPY_SRC
    });
    this.#staging = new Staging(gpu, MAX_QUERIES * 8, "timestamps");
  }

  /** The timestamp writes of the next launch; undefined once the query set is full. */
  next(label: string): GPUComputePassTimestampWrites | undefined {
    const index = this.#labels.length * 2;
    if (index + 2 > MAX_QUERIES) return undefined;
    this.#labels.push(label);
    return {
      querySet: this.#queries,
      beginningOfPassWriteIndex: index,
      endOfPassWriteIndex: index + 1,
    };
  }

  /** Times of all launches since the last call, in order. */
  async read(): Promise<LaunchTime[]> {
    const labels = this.#labels.splice(0);
    if (labels.length === 0) return [];
    const encoder = this.#gpu.createCommandEncoder({ label: "timestamps" });
    encoder.resolveQuerySet(this.#queries, 0, labels.length * 2, this.#resolved, 0);
    this.#staging.encodeCopy(encoder, this.#resolved, 0, labels.length * 16);
    this.#gpu.queue.submit([encoder.finish()]);
    const bytes = await this.#staging.map(labels.length * 16);
    const ticks = new BigUint64Array(bytes.buffer, bytes.byteOffset, labels.length * 2);
    const times = labels.map((label, i) => ({
      label,
      timeUs: Number((ticks[2 * i + 1] ?? 0n) - (ticks[2 * i] ?? 0n)) / 1000,
    }));
    this.#staging.unmap();
    return times;
  }

  destroy(): void {
    this.#queries.destroy();
    this.#resolved.destroy();
    this.#staging.destroy();
  }
}
