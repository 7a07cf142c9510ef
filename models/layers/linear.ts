/** Parallel linear layers: Y = X Wᵀ + b with W split by rows (column-parallel) or by columns (row-parallel). */
import type { Reduction } from "../../src/collectives/communicator.ts";
import type { Tensor } from "../../src/device/device.ts";
import { linear, type LinearWeight } from "../../src/kernels/linear.ts";
import { linearFrom, type LinearInput, linearOnto } from "../../src/kernels/linearFused.ts";
import { linearSplit, splitsOf } from "../../src/kernels/linearMatrix.ts";
import type { ForwardContext, WeightStore } from "./context.ts";

/**
 * Y = X Wᵀ + b, W split by output features: rank r holds W[begin..end, :] and computes that part of
 * Y; no communication (Megatron-LM, arXiv:1909.08053, section 3). Merged layers (q, k, v; gate, up)
 * hold one such part of each of their weights, one after the other.
 */
export class ColumnParallelLinear {
  readonly weight: LinearWeight; // [outFeatures of this rank, inFeatures]
  readonly bias: Tensor | undefined; // [outFeatures of this rank]

  constructor(name: string, weights: WeightStore) {
    this.weight = weights.linear(`${name}.weight`);
    this.bias = weights.optionalVector(`${name}.bias`);
  }

  /** x: [capacity, inFeatures] -> out: [capacity, outFeatures of this rank] */
  forward(
    { rec }: ForwardContext,
    x: LinearInput,
    out: Tensor,
    rows: "tokens" | "samples" = "tokens",
  ): void {
    linearFrom(rec, { x, weight: this.weight, out, rows, ...withBias(this.bias) });
  }
}

/** gate and up in one launch, with their product: silu(X Gᵀ) * (X Uᵀ) (SwiGLU, arXiv:2002.05202). */
export class GateUpParallelLinear {
  readonly weight: LinearWeight; // [2 * intermediate of this rank, hidden]: gate rows, then up rows
  readonly bias: Tensor | undefined;

  constructor(name: string, weights: WeightStore) {
    this.weight = weights.linear(`${name}.weight`);
    this.bias = weights.optionalVector(`${name}.bias`);
  }

  /** Output features: this rank's part of the intermediate size, a multiple of 8. */
  get intermediateSize(): number {
    return this.weight.outFeatures / 2;
  }

  /** x: [capacity, hidden] -> out: [capacity, intermediate of this rank] */
  forward({ rec }: ForwardContext, x: LinearInput, out: Tensor): void {
    const { weight, bias } = this;
    linearFrom(rec, { x, weight, out, rows: "tokens", activation: "swiglu", ...withBias(bias) });
  }
}

/**
 * Y = X Wᵀ + b, W split by input features: rank r holds W[:, begin..end) and computes a partial Y; one
 * all-reduce sums the partials (Megatron-LM, arXiv:1909.08053, section 3). Follows a column-parallel
 * layer, whose output is split the same way. The bias, if any, is on rank 0 alone.
 */
export class RowParallelLinear {
  readonly weight: LinearWeight; // [outFeatures, inFeatures of this rank]
  readonly bias: Tensor | undefined; // [outFeatures], on rank 0 only
  readonly name: string;

  constructor(name: string, weights: WeightStore) {
    this.name = name;
    this.weight = weights.linear(`${name}.weight`);
    this.bias = weights.optionalVector(`${name}.bias`);
  }

  /** x: [capacity, inFeatures of this rank] -> the sum, deferred: [capacity, outFeatures] */
  forward(context: ForwardContext, x: Tensor): Reduction {
    const { rec, tp, capacity } = context;
    const shape = [capacity, this.weight.outFeatures] as const;
    const splits = tp.worldSize > 1 ? 1 : this.#splits(context);
    if (splits > 1) return this.#forwardSplit(context, x, splits);
    return tp.allReduce(rec, this.name, shape, (out) => {
      linear(rec, { x, weight: this.weight, out, rows: "tokens", ...withBias(this.bias) });
    });
  }

  #splits({ rec, capacity }: ForwardContext): number {
    const hasBias = this.bias !== undefined;
    return splitsOf(rec.device.info, { weight: this.weight, capacity, hasBias });
  }

  /** One rank's sum over parts of its input features, which what reads a Reduction adds as it would ranks'. */
  #forwardSplit({ rec, capacity }: ForwardContext, x: Tensor, splits: number): Reduction {
    const { weight } = this;
    const out = rec.alloc(this.name, [splits * capacity, weight.outFeatures]);
    linearSplit(rec, { x, weight, out, rows: "tokens" }, splits);
    return { tensor: out, count: splits, strideElements: capacity * weight.outFeatures };
  }

  /** Where this rank has the whole weight: out = residual + Y. residual, out: [capacity, outFeatures] */
  forwardOnto({ rec }: ForwardContext, x: Tensor, residual: Tensor, out: Tensor): void {
    const { weight, bias } = this;
    linearOnto(rec, { x, weight, residual, out, rows: "tokens", ...withBias(bias) });
  }
}

function withBias(bias: Tensor | undefined): { bias?: Tensor } {
  return bias === undefined ? {} : { bias };
}
