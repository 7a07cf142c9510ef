/** The decoder that all dense architectures share: the range of its layers that one pipeline stage runs. */
import type { Communicator } from "../src/collectives/communicator.ts";
import type { Tensor } from "../src/device/device.ts";
import { embedding } from "../src/kernels/embedding.ts";
import { gatherRows } from "../src/kernels/gatherRows.ts";
import type { LinearWeight } from "../src/kernels/linear.ts";
import { addPartials } from "../src/kernels/sumResidualNorm.ts";
import type { ForwardContext, WeightStore } from "./layers/context.ts";
import {
  type DecoderLayer,
  type PendingSum,
  ResidualNorm,
  residualTap,
} from "./layers/decoderLayer.ts";
import { ColumnParallelLinear } from "./layers/linear.ts";
import type { Range } from "./weights/weightSource.ts";

/** This rank's place in the pipeline. */
export interface Stage {
  readonly pp: Communicator;
  /** The block whose residual this stage receives; undefined on the first stage. */
  readonly receivedFrom: string | undefined;
  /** Rows of lm_head on this rank; undefined unless on the last stage. */
  readonly vocabShard: Range | undefined;
}

/** Which rows get logits: those the step samples from, or all of them (for `logits` and `verify`). */
export type LogitRows = "samples" | "tokens";

export interface DecoderParts {
  readonly hiddenSize: number;
  readonly rmsNormEps: number;
  readonly layers: readonly DecoderLayer[];
  readonly lastToken: Tensor; // [maxNumSeqs] u32
}

export class Decoder {
  readonly #parts: DecoderParts;
  readonly #stage: Stage;
  readonly #embedTokens: LinearWeight | undefined; // [vocab, hidden], on the first stage
  readonly #finalNorm: ResidualNorm | undefined;
  readonly #lmHead: ColumnParallelLinear | undefined; // [vocab of this rank, hidden], on the last

  constructor(parts: DecoderParts, stage: Stage, weights: WeightStore) {
    this.#parts = parts;
    this.#stage = stage;
    if (stage.receivedFrom === undefined) {
      this.#embedTokens = weights.linear("model.embed_tokens.weight");
    }
    if (stage.vocabShard !== undefined) {
      this.#finalNorm = new ResidualNorm("model.norm", parts.rmsNormEps, weights);
      this.#lmHead = new ColumnParallelLinear("lm_head", weights);
    }
  }

  /** The vocabulary ids that this rank's logits are for; undefined unless on the last stage. */
  get vocabShard(): Range | undefined {
    return this.#stage.vocabShard;
  }

  /** Records one pass. The last stage returns logits [rows, vocab of this rank]; others send on. */
  forward(context: ForwardContext, logitRows: LogitRows): Tensor | undefined {
    const residual = this.#start(context);
    let pending: PendingSum | undefined;
    for (const layer of this.#parts.layers) pending = layer.forward(context, residual, pending);
    if (this.#stage.vocabShard === undefined) {
      this.#sendOn(context, residual, pending);
      return undefined;
    }
    return this.#logits(context, residual, pending, logitRows);
  }

  #start({ rec, inputs, capacity }: ForwardContext): Tensor {
    const { hiddenSize, lastToken } = this.#parts;
    const residual = rec.alloc("residual", [capacity, hiddenSize]);
    const { pp, receivedFrom } = this.#stage;
    if (this.#embedTokens === undefined) {
      pp.recv(rec, "residual", residual, pp.rank - 1);
      if (receivedFrom !== undefined) rec.tap(residualTap(receivedFrom), residual);
      return residual;
    }
    const { tokenIds } = inputs;
    embedding(rec, { tokenIds, lastToken, table: this.#embedTokens, out: residual });
    rec.tap("model.embed_tokens", residual);
    return residual;
  }

  /** Only the f32 residual travels between stages, from tp rank r to tp rank r. */
  #sendOn({ rec }: ForwardContext, residual: Tensor, pending: PendingSum | undefined): void {
    if (pending !== undefined) {
      addPartials(rec, { partials: pending.sum, residual });
      rec.tap(residualTap(pending.producer), residual);
    }
    this.#stage.pp.send(rec, "residual", residual, this.#stage.pp.rank + 1);
  }

  #logits(
    context: ForwardContext,
    residual: Tensor,
    pending: PendingSum | undefined,
    rows: LogitRows,
  ): Tensor | undefined {
    const { rec, inputs, capacity } = context;
    if (this.#finalNorm === undefined || this.#lmHead === undefined) return undefined;
    const numVocab = this.#lmHead.weight.outFeatures;
    const normed = this.#finalNorm.forward(context, residual, pending);
    if (rows === "tokens") {
      const logits = rec.alloc("logits", [capacity, numVocab]);
      this.#lmHead.forward(context, normed, logits, "tokens");
      rec.tap("logits", logits);
      return logits;
    }
    const [maxSamples = 0] = inputs.sampleRows.shape;
    const numRows = Math.min(capacity, maxSamples);
    // The row of a step of one token is its own sample; of more tokens, one may be the sample.
    const isAlone = capacity === 1;
    const selected = isAlone
      ? normed
      : rec.alloc("sampled rows", [numRows, this.#parts.hiddenSize]);
    if (!isAlone) gatherRows(rec, { x: normed, indices: inputs.sampleRows, out: selected });
    const logits = rec.alloc("logits", [numRows, numVocab]);
    this.#lmHead.forward(context, selected, logits, "samples");
    return logits;
  }
}
