/**
 * RoPE settings. transformers 4 writes `rope_theta` beside `rope_scaling`; transformers 5 writes
 * both into `rope_parameters`.
 */
import type { Fields } from "./fields.ts";

/** theta is the base of the geometric series of frequencies; the rest scales long contexts. */
export type RopeConfig =
  | { readonly type: "default"; readonly theta: number }
  | { readonly type: "linear"; readonly theta: number; readonly factor: number }
  | {
      readonly type: "llama3";
      readonly theta: number;
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalMaxPositionEmbeddings: number;
    };

const DEFAULT_THETA = 10_000; // of all four architectures in transformers

export function parseRope(config: Fields): RopeConfig {
  const scaling = config.object("rope_parameters") ?? config.object("rope_scaling");
  for (const fields of scaling === undefined ? [config] : [config, scaling]) {
    if (fields.positive("partial_rotary_factor", 1) !== 1) {
      fields.fail("partial_rotary_factor", "1 (rotating a part of a head is not supported)");
    }
  }
  const theta = scaling?.has("rope_theta")
    ? scaling.positive("rope_theta")
    : config.positive("rope_theta", DEFAULT_THETA);
  return scaling === undefined ? { type: "default", theta } : parseScaling(config, scaling, theta);
}

function parseScaling(config: Fields, scaling: Fields, theta: number): RopeConfig {
  const typeKey = scaling.firstOf("rope_type", "type") ?? "rope_type";
  switch (scaling.string(typeKey)) {
    case "default":
      return { type: "default", theta };
    case "linear":
      return { type: "linear", theta, factor: scaling.positive("factor") };
    case "llama3":
      return parseLlama3(config, scaling, theta);
    case undefined:
      // transformers 5 nests one object per kind of layer where kinds differ
      if (scaling.has("full_attention") || scaling.has("sliding_attention")) {
        scaling.fail("full_attention", "one RoPE setting for all layers");
      }
      if (scaling.firstOf("factor") === undefined) return { type: "default", theta };
      return scaling.fail(typeKey, "default, linear or llama3");
    default:
      return scaling.fail(
        typeKey,
        "default, linear or llama3",
        "other RoPE scalings would give wrong logits",
      );
  }
}

function parseLlama3(config: Fields, scaling: Fields, theta: number): RopeConfig {
  const originalKey = "original_max_position_embeddings";
  const lowFreqFactor = scaling.positive("low_freq_factor");
  const highFreqFactor = scaling.positive("high_freq_factor");
  if (highFreqFactor <= lowFreqFactor) {
    scaling.fail("high_freq_factor", `more than low_freq_factor (${lowFreqFactor})`);
  }
  return {
    type: "llama3",
    theta,
    factor: scaling.positive("factor"),
    lowFreqFactor,
    highFreqFactor,
    originalMaxPositionEmbeddings: (scaling.has(originalKey) ? scaling : config).size(originalKey),
  };
}
