/** The decoder that all dense architectures share: the range of its layers that one pipeline stage runs. */
import type { Tensor } from "../src/device/device.ts";
import { embedding } from "../src/kernels/embedding.ts";
import type { LinearWeight } from "../src/kernels/linear.ts";
import type { ForwardContext, WeightStore } from "./layers/context.ts";
import type { DecoderLayer } from "./layers/decoderLayer.ts";
import { ColumnParallelLinear } from "./layers/linear.ts";
import { ResidualNorm, ResidualStream, residualTap } from "./layers/residual.ts";
import type { Range } from "./weights/weightSource.ts";

/** This rank's place in the pipeline. */
export interface Stage {
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
    const residual = new ResidualStream(this.#start(context));
    for (const layer of this.#parts.layers) layer.forward(context, residual);
    if (this.#stage.vocabShard !== undefined) return this.#logits(context, residual, logitRows);
    // Only the f32 residual travels between stages, from tp rank r to tp rank r.
    const { pp } = context;
    pp.send(context.rec, "residual", residual.whole(context), pp.rank + 1);
    return undefined;
  }

  #start({ rec, inputs, capacity, pp }: ForwardContext): Tensor {
    const { hiddenSize, lastToken } = this.#parts;
    const residual = rec.alloc("residual", [capacity, hiddenSize]);
    const { receivedFrom } = this.#stage;
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

  #logits(context: ForwardContext, residual: ResidualStream, rows: LogitRows): Tensor | undefined {
    const { rec, inputs, capacity } = context;
    if (this.#finalNorm === undefined || this.#lmHead === undefined) return undefined;
    const numVocab = this.#lmHead.weight.outFeatures;
    if (rows === "tokens" || capacity === 1) {
      const logits = rec.alloc("logits", [capacity, numVocab]);
      // One row is its own sample: no gather where a step has one token.
      this.#lmHead.forward(context, this.#finalNorm.forward(context, residual), logits, rows);
      residual.whole(context); // and its tap
      if (rows === "tokens") rec.tap("logits", logits);
      return logits;
    }
    const [maxSamples = 0] = inputs.sampleRows.shape;
    const numRows = Math.min(capacity, maxSamples);
    const selected = this.#finalNorm.forwardRows(context, residual, inputs.sampleRows, numRows);
    const logits = rec.alloc("logits", [numRows, numVocab]);
    this.#lmHead.forward(context, selected, logits, "samples");
    return logits;
  }
}
