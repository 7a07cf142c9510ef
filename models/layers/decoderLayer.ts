/** One pre-norm transformer layer: attention and feed-forward, each added to the residual stream. */
import type { Attention } from "./attention.ts";
import type { ForwardContext, WeightStore } from "./context.ts";
import type { Mlp } from "./mlp.ts";
import { ResidualNorm, type ResidualStream } from "./residual.ts";

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

  forward(context: ForwardContext, residual: ResidualStream): void {
    this.#attention.forward(context, this.#inputNorm.forward(context, residual), residual);
    this.#mlp.forward(context, this.#postAttentionNorm.forward(context, residual), residual);
  }
}
