/** One pre-norm transformer layer: attention and feed-forward, each added to the residual stream. */
import type { Reduction } from "../../src/collectives/communicator.ts";
import type { Tensor } from "../../src/device/device.ts";
import { sumResidualNorm } from "../../src/kernels/sumResidualNorm.ts";
import type { Attention } from "./attention.ts";
import type { ForwardContext, WeightStore } from "./context.ts";
import type { Mlp } from "./mlp.ts";

/** A block's output that is not yet part of the residual stream; the next norm adds it. */
export interface PendingSum {
  readonly sum: Reduction;
  /** The block that computed it: taps of the residual after the addition carry this name. */
  readonly producer: string;
}

/** The name of the tap that follows a block: the residual stream with the block's output added. */
export function residualTap(producer: string): string {
  return `${producer}.residual`;
}

/** An RMSNorm that first adds a pending sum to the residual, in one launch. */
export class ResidualNorm {
  readonly #weight: Tensor; // [hidden]
  readonly #eps: number;

  constructor(name: string, eps: number, weights: WeightStore) {
    this.#weight = weights.vector(`${name}.weight`);
    this.#eps = eps;
  }

  /** residual += the pending sum; returns norm(residual): [capacity, hidden] */
  forward({ rec }: ForwardContext, residual: Tensor, pending: PendingSum | undefined): Tensor {
    const out = rec.alloc("normed", residual.shape);
    const partials = pending === undefined ? {} : { partials: pending.sum };
    sumResidualNorm(rec, { ...partials, residual, weight: this.#weight, out, eps: this.#eps });
    if (pending !== undefined) rec.tap(residualTap(pending.producer), residual);
    return out;
  }
}

export class DecoderLayer {
  readonly #inputNorm: ResidualNorm;
  readonly #attention: Attention;
  readonly #postAttentionNorm: ResidualNorm;
  readonly #mlp: Mlp;

  constructor(name: string, eps: number, weights: WeightStore, attention: Attention, mlp: Mlp) {
    this.#inputNorm = new ResidualNorm(`${name}.input_layernorm`, eps, weights);
    this.#attention = attention;
    this.#postAttentionNorm = new ResidualNorm(`${name}.post_attention_layernorm`, eps, weights);
    this.#mlp = mlp;
  }

  /** residual: [capacity, hidden], updated in place; takes and returns what is still to be added to it */
  forward(context: ForwardContext, residual: Tensor, pending: PendingSum | undefined): PendingSum {
    const attended = this.#attention.forward(
      context,
      this.#inputNorm.forward(context, residual, pending),
    );
    return this.#mlp.forward(context, this.#postAttentionNorm.forward(context, residual, attended));
  }
}
