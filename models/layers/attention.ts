/** Grouped-query attention over this rank's heads, with its paged KV cache. */
import type { Tensor } from "../../src/device/device.ts";
import { attention } from "../../src/kernels/attention.ts";
import { tapRows } from "../../src/kernels/activationTiles.ts";
import type { LinearInput } from "../../src/kernels/linearFused.ts";
import { allocLinearInput } from "../../src/kernels/linearMatrix.ts";
import { qkvRope } from "../../src/kernels/qkvRope.ts";
import type { ForwardContext, KvCacheDType, LayerKvCache, WeightStore } from "./context.ts";
import { ColumnParallelLinear, RowParallelLinear } from "./linear.ts";
import type { ResidualStream } from "./residual.ts";

/** Sizes of this rank's attention, the same in every layer but for the window. */
export interface AttentionShape {
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly blockSize: number;
  /** Splits of decode attention at most. */
  readonly maxSplits: number;
  /** One-token parts of a step at most. */
  readonly maxNumSeqs: number;
  readonly kvCacheDType: KvCacheDType;
  readonly hasQkNorm: boolean;
  readonly rmsNormEps: number;
}

export class Attention {
  readonly #name: string;
  readonly #shape: AttentionShape;
  readonly #qkvProj: ColumnParallelLinear;
  readonly #oProj: RowParallelLinear;
  readonly #qNorm: Tensor | undefined;
  readonly #kNorm: Tensor | undefined;
  readonly #ropeTable: Tensor; // [maxPositions, headDim]
  readonly #kvCache: LayerKvCache;
  readonly #slidingWindow: number; // 0: none

  constructor(
    name: string,
    shape: AttentionShape,
    weights: WeightStore,
    ropeTable: Tensor,
    kvCache: LayerKvCache,
    slidingWindow: number | null,
  ) {
    this.#name = name;
    this.#shape = shape;
    this.#qkvProj = new ColumnParallelLinear(`${name}.qkv_proj`, weights);
    this.#oProj = new RowParallelLinear(`${name}.o_proj`, weights);
    this.#qNorm = shape.hasQkNorm ? weights.vector(`${name}.q_norm.weight`) : undefined;
    this.#kNorm = shape.hasQkNorm ? weights.vector(`${name}.k_norm.weight`) : undefined;
    this.#ropeTable = ropeTable;
    this.#kvCache = kvCache;
    this.#slidingWindow = slidingWindow ?? 0;
  }

  /** residual += o_proj(heads(x)); x: [capacity, hidden] */
  forward(context: ForwardContext, x: LinearInput, residual: ResidualStream): void {
    const { rec, inputs, capacity } = context;
    const { numHeads, numKvHeads, headDim, blockSize, maxSplits, maxNumSeqs } = this.#shape;
    const kvCacheDType = this.#shape.kvCacheDType;
    const { key: keyCache, value: valueCache } = this.#kvCache;
    const { positions, slotMapping, sequenceIndex, blockTables, prefillTiles } = inputs;

    const q = rec.alloc("q", [capacity, numHeads * headDim]);
    qkvRope(rec, {
      x,
      weight: this.#qkvProj.weight,
      bias: this.#qkvProj.bias,
      positions,
      slotMapping,
      ropeTable: this.#ropeTable,
      qNorm: this.#qNorm,
      kNorm: this.#kNorm,
      eps: this.#shape.rmsNormEps,
      q,
      keyCache,
      valueCache,
      kvDType: kvCacheDType,
      numHeads,
      numKvHeads,
      headDim,
    });

    const heads = this.#allocHeads(context);
    attention(rec, {
      q,
      keyCache,
      valueCache,
      kvDType: kvCacheDType,
      positions,
      sequenceIndex,
      blockTables,
      prefillTiles,
      out: heads,
      scale: 1 / Math.sqrt(headDim),
      slidingWindow: this.#slidingWindow,
      numHeads,
      numKvHeads,
      headDim,
      blockSize,
      maxSplits,
      maxDecodeTokens: Math.min(capacity, maxNumSeqs),
    });
    rec.tap(`${this.#name}.heads`, heads, tapRows(heads));
    residual.add(context, this.#oProj, heads);
  }

  /** Room for the heads' results; in tiles where o_proj takes those and attention writes them. */
  #allocHeads({ rec, capacity }: ForwardContext): Tensor {
    const { numHeads, headDim } = this.#shape;
    const shape = [capacity, numHeads * headDim];
    if (rec.device.info.isSoftware) return rec.alloc("attention heads", shape);
    return allocLinearInput(rec, "attention heads", shape);
  }
}
