/** The residual stream while a pass is recorded, and the norms that read it. */
import type { Reduction } from "../../src/collectives/communicator.ts";
import type { Tensor } from "../../src/device/device.ts";
import { gatherRows } from "../../src/kernels/gatherRows.ts";
import type { LinearInput } from "../../src/kernels/linearFused.ts";
import { allocLinearInput } from "../../src/kernels/linearMatrix.ts";
import { MAX_GEMV_CAPACITY } from "../../src/kernels/linearVariant.ts";
import { addPartials, sumResidualNorm } from "../../src/kernels/sumResidualNorm.ts";
import type { ForwardContext, WeightStore } from "./context.ts";
import type { RowParallelLinear } from "./linear.ts";

/** A block's output that is not yet part of the residual stream; the next norm adds it. */
interface PendingSum {
  readonly sum: Reduction;
  readonly producer: string;
}

/** What makes an RMSNorm. */
interface NormSpec {
  readonly weight: Tensor; // [hidden]
  readonly eps: number;
}

/** The name of the tap that follows a block: the residual stream with the block's output added. */
export function residualTap(producer: string): string {
  return `${producer}.residual`;
}

/**
 * What the layers of a pass have added so far, and what the last one has still to. Steps of few tokens
 * are a chain of launches, where each costs as much as the work of a small one: there a block's last
 * linear layer adds to the residual itself (one rank), or the linear layer after the norm adds all ranks'
 * partials and norms as it reads. Larger steps update one tensor in place, with the norm.
 */
export class ResidualStream {
  #tensor: Tensor; // [capacity, hidden]
  #pending: PendingSum | undefined;
  /** The block whose sum a recorded norm adds when its reader runs; tapped once that is recorded. */
  #untapped: string | undefined;

  constructor(tensor: Tensor) {
    this.#tensor = tensor;
  }

  /** Adds the output of a block whose last layer is `layer`. x: [capacity, inFeatures of this rank] */
  add(context: ForwardContext, layer: RowParallelLinear, x: Tensor): void {
    if (context.tp.worldSize > 1 || !isSmall(context)) {
      this.addSum(context, layer.forward(context, x), layer.name);
      return;
    }
    const updated = context.rec.alloc("residual", this.#tensor.shape);
    layer.forwardOnto(context, x, this.#tensor, updated);
    this.#tensor = updated;
    context.rec.tap(residualTap(layer.name), updated);
  }

  /** Adds a block's output by its partials; taps of the residual then carry the producer's name. */
  addSum(context: ForwardContext, sum: Reduction, producer: string): void {
    this.#settleTap(context);
    this.#pending = { sum, producer };
  }

  /** norm(residual), computed now or by the linear layer that reads it, which must follow: [capacity, hidden] */
  normed(context: ForwardContext, norm: NormSpec): LinearInput {
    if (!isSmall(context)) {
      const out = allocLinearInput(context.rec, "normed", this.#tensor.shape);
      return this.#sumAndNorm(context, norm, out);
    }
    const [residual, pending] = [this.#tensor, this.#pending];
    if (pending === undefined) return { residual, ...norm };
    const updated = context.rec.alloc("residual", residual.shape);
    this.#tensor = updated;
    this.#pending = undefined;
    this.#untapped = pending.producer;
    return { residual, pending: { partials: pending.sum, updated }, ...norm };
  }

  /** norm(residual) of some rows: [numRows, hidden]; rows: [numRows or more] u32 */
  normedRows(context: ForwardContext, rows: Tensor, numRows: number, norm: NormSpec): LinearInput {
    const { rec } = context;
    const isFused = isSmall(context);
    const [, hidden = 0] = this.#tensor.shape;
    const x = isFused
      ? this.whole(context)
      : this.#sumAndNorm(context, norm, rec.alloc("normed", this.#tensor.shape));
    const selected = rec.alloc("sampled rows", [numRows, hidden]);
    gatherRows(rec, { x, indices: rows, out: selected });
    return isFused ? { residual: selected, ...norm } : selected;
  }
  /** The residual with all that was added: [capacity, hidden] */
  whole(context: ForwardContext): Tensor {
    this.#settleTap(context);
    const [residual, pending] = [this.#tensor, this.#pending];
    this.#pending = undefined;
    if (pending !== undefined) {
      addPartials(context.rec, { partials: pending.sum, residual });
      context.rec.tap(residualTap(pending.producer), residual);
    }
    return residual;
  }

  #sumAndNorm({ rec }: ForwardContext, norm: NormSpec, out: Tensor): Tensor {
    const [residual, pending] = [this.#tensor, this.#pending];
    this.#pending = undefined;
    const partials = pending === undefined ? {} : { partials: pending.sum };
    sumResidualNorm(rec, { ...partials, residual, out, ...norm });
    if (pending !== undefined) rec.tap(residualTap(pending.producer), residual);
    return out;
  }

  #settleTap({ rec }: ForwardContext): void {
    if (this.#untapped !== undefined) rec.tap(residualTap(this.#untapped), this.#tensor);
    this.#untapped = undefined;
  }
}

function isSmall({ capacity }: ForwardContext): boolean {
  return capacity <= MAX_GEMV_CAPACITY;
}

/** An RMSNorm of the residual stream. */
export class ResidualNorm {
  readonly #norm: NormSpec;

  constructor(name: string, eps: number, weights: WeightStore) {
    this.#norm = { weight: weights.vector(`${name}.weight`), eps };
  }

  /** norm(residual) for one linear layer: [capacity, hidden] */
  forward(context: ForwardContext, residual: ResidualStream): LinearInput {
    return residual.normed(context, this.#norm);
  }

  /** The same of some rows: [numRows, hidden]; rows: [numRows or more] u32 */
  forwardRows(
    context: ForwardContext,
    residual: ResidualStream,
    rows: Tensor,
    numRows: number,
  ): LinearInput {
    return residual.normedRows(context, rows, numRows, this.#norm);
  }
}
