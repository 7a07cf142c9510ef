/** What an architecture is built from, on one rank. */
import type { Tensor } from "../src/device/device.ts";
import type { ModelConfig } from "./config.ts";
import { Decoder, type Stage } from "./decoder.ts";
import { Attention, type AttentionShape } from "./layers/attention.ts";
import type { LayerKvCache, WeightStore } from "./layers/context.ts";
import { DecoderLayer } from "./layers/decoderLayer.ts";
import { Mlp } from "./layers/mlp.ts";
import type { Range } from "./weights/weightSource.ts";

export interface ModelParts {
  readonly config: ModelConfig;
  /** The layers of this stage, numbered as in the whole model. */
  readonly layers: Range;
  readonly attention: AttentionShape;
  readonly weights: WeightStore;
  readonly ropeTable: Tensor; // [maxPositions, headDim]
  readonly kvCaches: readonly LayerKvCache[]; // one a layer of this stage
  readonly lastToken: Tensor; // [maxNumSeqs] u32
  readonly stage: Stage;
}

/** Makes one layer; `index` is its number in the whole model. */
export type BuildLayer = (index: number, kvCache: LayerKvCache) => DecoderLayer;

/** An architecture: how it composes its layers. */
export type BuildModel = (parts: ModelParts) => Decoder;

/** The pre-norm decoder with RMSNorm, rotary grouped-query attention and SwiGLU, layer by layer. */
export function buildDecoder(parts: ModelParts, buildLayer: BuildLayer): Decoder {
  const { config, layers, kvCaches, lastToken, stage, weights } = parts;
  const built = kvCaches.map((kvCache, i) => buildLayer(layers.begin + i, kvCache));
  const { hiddenSize, rmsNormEps } = config;
  return new Decoder({ hiddenSize, rmsNormEps, layers: built, lastToken }, stage, weights);
}

/** A layer whose attention sees `slidingWindow` tokens, or all with null. */
export function denseLayer(
  { config, attention, weights, ropeTable }: ModelParts,
  index: number,
  kvCache: LayerKvCache,
  slidingWindow: number | null,
): DecoderLayer {
  const name = `model.layers.${index}`;
  const attend = new Attention(
    `${name}.self_attn`,
    attention,
    weights,
    ropeTable,
    kvCache,
    slidingWindow,
  );
  const mlp = new Mlp(`${name}.mlp`, weights);
  return new DecoderLayer(name, config.rmsNormEps, weights, attend, mlp);
}
