/**
 * Shapes of well-known models, for dummy weights: speed and memory can be measured without the
 * checkpoint. Figures are those of the models' published config.json.
 */
import { ConfigError } from "../../src/common/errors.ts";
import { type ModelConfig, parseConfig } from "../config.ts";

function llama3(
  hidden_size: number,
  intermediate_size: number,
  num_hidden_layers: number,
  num_attention_heads: number,
  rest: { head_dim: number; ropeFactor: number; tie: boolean },
): Record<string, unknown> {
  return {
    architectures: ["LlamaForCausalLM"],
    vocab_size: 128_256,
    hidden_size,
    intermediate_size,
    num_hidden_layers,
    num_attention_heads,
    num_key_value_heads: 8,
    head_dim: rest.head_dim,
    max_position_embeddings: 131_072,
    rms_norm_eps: 1e-5,
    rope_theta: 500_000,
    rope_scaling: {
      rope_type: "llama3",
      factor: rest.ropeFactor,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    },
    tie_word_embeddings: rest.tie,
    torch_dtype: "bfloat16",
    bos_token_id: 128_000,
    eos_token_id: 128_001,
  };
}

const SHAPES: Readonly<Record<string, Record<string, unknown>>> = {
  "Llama-3.2-1B": llama3(2048, 8192, 16, 32, { head_dim: 64, ropeFactor: 32, tie: true }),
  "Llama-3.2-3B": llama3(3072, 8192, 28, 24, { head_dim: 128, ropeFactor: 32, tie: true }),
  "Llama-3.1-8B": llama3(4096, 14_336, 32, 32, { head_dim: 128, ropeFactor: 8, tie: false }),
  "Llama-3.1-70B": llama3(8192, 28_672, 80, 64, { head_dim: 128, ropeFactor: 8, tie: false }),
  "Qwen3-0.6B": {
    architectures: ["Qwen3ForCausalLM"],
    vocab_size: 151_936,
    hidden_size: 1024,
    intermediate_size: 3072,
    num_hidden_layers: 28,
    num_attention_heads: 16,
    num_key_value_heads: 8,
    head_dim: 128,
    max_position_embeddings: 40_960,
    rms_norm_eps: 1e-6,
    rope_theta: 1_000_000,
    tie_word_embeddings: true,
    torch_dtype: "bfloat16",
    bos_token_id: 151_643,
    eos_token_id: 151_645,
  },
};

/** Names that builtinConfig knows. */
export const BUILTIN_NAMES: readonly string[] = Object.keys(SHAPES);

/** The shape of a well-known model; capitals do not matter. */
export function builtinConfig(name: string): ModelConfig {
  return parseConfig(builtinJson(name), name);
}

/** The same as a config.json has it. */
export function builtinJson(name: string): Record<string, unknown> {
  const found = BUILTIN_NAMES.find((known) => known.toLowerCase() === name.toLowerCase());
  const json = found === undefined ? undefined : SHAPES[found];
  if (json === undefined) {
    const expected = `a model directory or one of ${BUILTIN_NAMES.join(", ")}`;
    throw new ConfigError({ what: "--model", expected, got: name });
  }
  return json;
}
