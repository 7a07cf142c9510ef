/** Every tensor that a config calls for, by its Hugging Face name, and the check against a source. */
import { WeightsError } from "../../src/common/errors.ts";
import type { ModelConfig } from "../config.ts";
import type { WeightSource } from "./weightSource.ts";

/** A tensor's Hugging Face name and the shape that the config implies. */
export interface ExpectedTensor {
  readonly name: string;
  readonly shape: readonly number[];
}

export const EMBED_TOKENS = "model.embed_tokens.weight";
export const FINAL_NORM = "model.norm.weight";
export const LM_HEAD = "lm_head.weight";

/** `model.layers.3.` */
export function layerPrefix(layer: number): string {
  return `model.layers.${layer}.`;
}

/** lm_head's tensor: the embedding itself where the two are tied. */
export function lmHeadName(config: ModelConfig): string {
  return config.tieWordEmbeddings ? EMBED_TOKENS : LM_HEAD;
}

/** All tensors of the model, in the order of the forward pass. */
export function expectedTensors(config: ModelConfig): readonly ExpectedTensor[] {
  const { vocabSize, hiddenSize, numLayers } = config;
  const layers = Array.from({ length: numLayers }, (_, layer) => expectedInLayer(config, layer));
  return [
    { name: EMBED_TOKENS, shape: [vocabSize, hiddenSize] },
    ...layers.flat(),
    { name: FINAL_NORM, shape: [hiddenSize] },
    ...(config.tieWordEmbeddings ? [] : [{ name: LM_HEAD, shape: [vocabSize, hiddenSize] }]),
  ];
}

function expectedInLayer(config: ModelConfig, layer: number): readonly ExpectedTensor[] {
  const { hiddenSize, intermediateSize, headDim, mlpBias } = config;
  const qSize = config.totalNumHeads * headDim;
  const kvSize = config.totalNumKvHeads * headDim;
  const named = (name: string, shape: readonly number[]): ExpectedTensor => ({
    name: layerPrefix(layer) + name,
    shape,
  });
  const linear = (name: string, rows: number, columns: number, bias: boolean): ExpectedTensor[] => [
    named(`${name}.weight`, [rows, columns]),
    ...(bias ? [named(`${name}.bias`, [rows])] : []),
  ];
  const qkNorms = ["self_attn.q_norm.weight", "self_attn.k_norm.weight"];
  return [
    named("input_layernorm.weight", [hiddenSize]),
    ...linear("self_attn.q_proj", qSize, hiddenSize, config.attentionBias),
    ...linear("self_attn.k_proj", kvSize, hiddenSize, config.attentionBias),
    ...linear("self_attn.v_proj", kvSize, hiddenSize, config.attentionBias),
    ...(config.qkNorm ? qkNorms.map((name) => named(name, [headDim])) : []),
    ...linear("self_attn.o_proj", hiddenSize, qSize, config.attentionOutputBias),
    named("post_attention_layernorm.weight", [hiddenSize]),
    ...linear("mlp.gate_proj", intermediateSize, hiddenSize, mlpBias),
    ...linear("mlp.up_proj", intermediateSize, hiddenSize, mlpBias),
    ...linear("mlp.down_proj", hiddenSize, intermediateSize, mlpBias),
  ];
}

/** Tensors that old checkpoints carry and nothing needs: RoPE frequencies follow from the config. */
const IGNORED = /\.rotary_emb\.inv_freq$/;

/**
 * Throws WeightsError unless the source has every tensor with the config's shape and a dtype that
 * weights have, and no tensor in the layers that the config does not call for (a bias, say, whose
 * loss would change every logit).
 */
export function checkTensors(config: ModelConfig, source: WeightSource): void {
  const expected = expectedTensors(config);
  for (const { name, shape } of expected) {
    if (!source.has(name)) throw missing(name, shape);
    const { shape: got, origin } = source.info(name);
    if (got.length === shape.length && got.every((size, i) => size === shape[i])) continue;
    throw new WeightsError({
      what: `${origin}: ${name}`,
      expected: `[${shape.join(", ")}], as config.json implies`,
      got: `[${got.join(", ")}]`,
      remedy: "use the config.json that belongs to these weights",
    });
  }
  const known = new Set(expected.map(({ name }) => name));
  const surplus = source.names.find(
    (name) => name.startsWith("model.layers.") && !known.has(name) && !IGNORED.test(name),
  );
  if (surplus === undefined) return;
  throw new WeightsError({
    what: surplus,
    expected: `no such tensor in a ${config.architecture} of ${config.numLayers} layers`,
    got: "one in the checkpoint",
    remedy: "use the config.json that belongs to these weights",
  });
}

function missing(name: string, shape: readonly number[]): WeightsError {
  return new WeightsError({
    what: name,
    expected: `a tensor [${shape.join(", ")}], as config.json implies`,
    got: "no such tensor in the checkpoint",
    remedy:
      name === LM_HEAD
        ? "if the model ties lm_head to the embedding, config.json must say tie_word_embeddings"
        : "use the config.json and all weight files of one checkpoint",
  });
}
