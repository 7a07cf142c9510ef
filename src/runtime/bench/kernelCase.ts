/** What `bench kernels` times: calls of the model's building blocks at its sizes on one rank. */
import type { ModelConfig } from "../../../models/config.ts";
import type { KvCacheDType } from "../../../models/layers/context.ts";
import { ffnShard, headShard, vocabShard } from "../../../models/sharding.ts";
import { sizeOf } from "../../../models/weights/weightSource.ts";
import { bytesOf, type DType, type WeightDType } from "../../common/dtype.ts";
import { product } from "../../common/math.ts";
import type { Device, Tensor } from "../../device/device.ts";
import type { LiveCounts } from "../../device/liveCounts.ts";
import type { Recorder } from "../../device/recorder.ts";
import { dummyFill } from "../../kernels/dummyFill.ts";
import type { LinearWeight, WeightPart } from "../../kernels/linear.ts";

export const FAMILIES = ["linear", "attention", "norm", "embedding", "sampling"] as const;
export type Family = (typeof FAMILIES)[number];

/** Sizes of one tp rank. */
export interface RankSizes {
  readonly config: ModelConfig;
  readonly hidden: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  /** Rows of gate, and of up; columns of down. */
  readonly intermediate: number;
  readonly vocab: number;
  readonly dtype: WeightDType;
  readonly kvDType: KvCacheDType;
}

/** A call and what it must move and compute at the least. */
export interface KernelCase {
  readonly family: Family;
  readonly name: string;
  /** Tokens of the step, and positions before them where attention reads them. */
  readonly tokens: number;
  readonly context: number | null;
  readonly bytes: number;
  readonly flops: number;
  readonly live: LiveCounts;
  /** Bytes of weights or KV cache that one call reads, and that calls in a row must not find in a cache. */
  readonly coldBytes: number;
  /** Allocates `numCopies` of what is cold; call k uses copy k % numCopies. */
  prepare(memory: CaseMemory, numCopies: number): Promise<(rec: Recorder, copy: number) => void>;
}

/** The sizes of rank 0 of a tp group. */
export function rankSizes(
  config: ModelConfig,
  tpSize: number,
  dtype: WeightDType,
  kvDType: KvCacheDType,
): RankSizes {
  const { heads, kvHeads } = headShard(config, tpSize, 0);
  return {
    config,
    hidden: config.hiddenSize,
    numHeads: sizeOf(heads),
    numKvHeads: sizeOf(kvHeads),
    headDim: config.headDim,
    intermediate: ffnShard(config, tpSize, 0).paddedSize,
    vocab: sizeOf(vocabShard(config, tpSize, 0)),
    dtype,
    kvDType,
  };
}

/** Tensors of one case, freed together. */
export class CaseMemory {
  readonly device: Device;
  readonly #tensors: Tensor[] = [];

  constructor(device: Device) {
    this.device = device;
  }

  empty(shape: readonly number[], dtype: DType = "f32"): Tensor {
    const tensor = this.device.empty(shape, dtype, "case");
    this.#tensors.push(tensor);
    return tensor;
  }

  words(values: readonly number[], shape: readonly number[] = [values.length]): Tensor {
    const tensor = this.empty(shape, "u32");
    this.device.write(tensor, new Uint8Array(Uint32Array.from(values).buffer));
    return tensor;
  }

  /** Pseudo-random values: zeros would let some hardware clock higher. */
  async filled(shape: readonly number[], dtype: WeightDType = "f32", scale = 1): Promise<Tensor> {
    const tensor = this.empty(shape, dtype);
    await this.#fill([tensor], scale);
    return tensor;
  }

  /** A weight in parts that each fit a binding; with swiglu a part's gate and up rows together. */
  async weight(
    outFeatures: number,
    inFeatures: number,
    dtype: WeightDType,
    isSwiglu = false,
  ): Promise<LinearWeight> {
    const limit = this.device.info.limits.maxStorageBufferBindingSize;
    const rowsOfOutput = isSwiglu ? 2 : 1;
    const numOutputs = outFeatures / rowsOfOutput;
    const most = Math.floor(limit / (inFeatures * bytesOf(dtype) * rowsOfOutput));
    const parts: WeightPart[] = [];
    for (let begin = 0; begin < numOutputs; begin += most) {
      const rows = rowsOfOutput * (Math.min(numOutputs, begin + most) - begin);
      parts.push({ tensor: this.empty([rows, inFeatures], dtype), outOffset: begin });
    }
    const tensors = parts.map(({ tensor }) => tensor);
    await this.#fill(tensors, 2 ** Math.round(Math.log2(3 / inFeatures) / 2));
    return { parts, outFeatures, inFeatures };
  }

  free(): void {
    for (const tensor of this.#tensors) this.device.free(tensor);
    this.#tensors.length = 0;
  }

  async #fill(tensors: readonly Tensor[], scale: number): Promise<void> {
    await this.device.run((rec) => {
      for (const [seed, out] of tensors.entries()) {
        const columns = out.shape.at(-1) ?? 0;
        const rows = product(out.shape) / columns;
        const flat = out.view([rows, columns]);
        dummyFill(rec, {
          out: flat,
          seed,
          scale,
          firstRow: 0,
          firstColumn: 0,
          numColumns: columns,
        });
      }
    });
  }
}

/** Rows that a step of so many tokens is recorded for: the token classes of the model runner. */
export function capacityOf(tokens: number): number {
  return [1, 8, 64].find((capacity) => tokens <= capacity) ?? tokens;
}
