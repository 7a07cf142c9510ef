/**
 * What a model is: sizes and traits from a Hugging Face `config.json`, written by transformers 4
 * or 5, with the stop tokens and sampling defaults of `generation_config.json` beside it.
 */
import type { WeightDType } from "../src/common/dtype.ts";
import { ConfigError } from "../src/common/errors.ts";
import { Fields, show } from "./config/fields.ts";
import { type GenerationDefaults, parseGenerationDefaults } from "./config/generation.ts";
import { parseRope, type RopeConfig } from "./config/rope.ts";
import { parseSlidingWindows } from "./config/slidingWindows.ts";
import { type FileSource, joinPath, readJson } from "./weights/files.ts";

const MODEL_TYPES = {
  llama: "LlamaForCausalLM",
  mistral: "MistralForCausalLM",
  qwen2: "Qwen2ForCausalLM",
  qwen3: "Qwen3ForCausalLM",
} as const;

/** The name a checkpoint gives in `architectures`. */
export type Architecture = (typeof MODEL_TYPES)[keyof typeof MODEL_TYPES];

export const ARCHITECTURES: readonly Architecture[] = Object.values(MODEL_TYPES);

/** The whole model's sizes; a rank's own come from sharding.ts. */
export interface ModelConfig {
  readonly architecture: Architecture;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numLayers: number;
  readonly totalNumHeads: number;
  readonly totalNumKvHeads: number;
  readonly headDim: number;
  readonly maxPositionEmbeddings: number;
  readonly rmsNormEps: number;
  readonly rope: RopeConfig;
  readonly tieWordEmbeddings: boolean;
  /** One entry a layer: tokens a query sees, itself included; null for all. */
  readonly slidingWindows: readonly (number | null)[];
  /** q, k and v have biases. */
  readonly attentionBias: boolean;
  /** o has a bias. */
  readonly attentionOutputBias: boolean;
  /** gate, up and down have biases. */
  readonly mlpBias: boolean;
  /** q and k are RMS-normalised per head before RoPE. */
  readonly qkNorm: boolean;
  /** What the config says the weights are; null where it is silent. The files have the last word. */
  readonly dtype: WeightDType | null;
  readonly bosTokenId: number | null;
  /** Any of these ends a completion. */
  readonly eosTokenIds: readonly number[];
}

/** A model directory's two JSON files, read. */
export interface ModelDescription {
  readonly config: ModelConfig;
  readonly generation: GenerationDefaults;
}

/** Vector loads of 8 halves and packed KV rows need rows that are multiples of 8. */
const ALIGNMENT = 8;
/** Far above any model; keeps a mistyped figure from allocating without end. */
const MAX_LAYERS = 10_000;

/** Reads config.json and, where it exists, generation_config.json. */
export async function loadConfig(files: FileSource, dir: string): Promise<ModelDescription> {
  const path = joinPath(dir, "config.json");
  if (!(await files.exists(path))) {
    throw new ConfigError({
      what: path,
      expected: "a Hugging Face model directory with a config.json",
      got: "no such file",
      remedy: "give --model such a directory",
    });
  }
  const generationPath = joinPath(dir, "generation_config.json");
  const hasGeneration = await files.exists(generationPath);
  const generation = hasGeneration
    ? new Fields(await readJson(files, generationPath, ConfigError), generationPath)
    : undefined;
  const config = parseConfig(await readJson(files, path, ConfigError), path, generation);
  return { config, generation: parseGenerationDefaults(generation) };
}

/** `generation`'s eos_token_id wins over the config's, as in transformers' generate(). */
export function parseConfig(json: unknown, where: string, generation?: Fields): ModelConfig {
  const fields = new Fields(json, where);
  const architecture = parseArchitecture(fields);
  refuseUnsupported(fields);
  const numLayers = fields.size("num_hidden_layers");
  if (numLayers > MAX_LAYERS) fields.fail("num_hidden_layers", `at most ${MAX_LAYERS}`);
  // Mistral's default window applies only where the key is absent: null says "none"
  const isWindowNull =
    !fields.has("sliding_window") && Object.hasOwn(json as object, "sliding_window");
  return {
    architecture,
    vocabSize: fields.size("vocab_size"),
    intermediateSize: fields.size("intermediate_size"),
    numLayers,
    ...parseHeads(fields),
    maxPositionEmbeddings: fields.size("max_position_embeddings"),
    rmsNormEps: fields.positive("rms_norm_eps", 1e-6),
    rope: parseRope(fields),
    tieWordEmbeddings: fields.boolean("tie_word_embeddings", false),
    slidingWindows: parseSlidingWindows(architecture, fields, numLayers, isWindowNull),
    ...parseBiases(architecture, fields),
    qkNorm: architecture === "Qwen3ForCausalLM",
    dtype: parseDType(fields),
    bosTokenId: fields.tokenIds("bos_token_id")[0] ?? null,
    eosTokenIds: (generation?.has("eos_token_id") ? generation : fields).tokenIds("eos_token_id"),
  };
}

function parseArchitecture(fields: Fields): Architecture {
  const [named] = fields.strings("architectures");
  const byType = Object.entries(MODEL_TYPES).find(([type]) => type === fields.get("model_type"));
  const found = named === undefined ? byType?.[1] : ARCHITECTURES.find((name) => name === named);
  if (found !== undefined) return found;
  const key = named === undefined && fields.has("model_type") ? "model_type" : "architectures";
  const known = key === "model_type" ? Object.keys(MODEL_TYPES) : ARCHITECTURES;
  return fields.fail(key, `one of ${known.join(", ")}`);
}

function refuseUnsupported(fields: Fields): void {
  if (fields.has("quantization_config")) {
    fields.fail(
      "quantization_config",
      "none (quantized checkpoints are not supported)",
      "use a checkpoint in bfloat16, float16 or float32",
    );
  }
  if ((fields.string("hidden_act") ?? "silu") !== "silu") fields.fail("hidden_act", '"silu"');
}

function parseHeads(
  fields: Fields,
): Pick<ModelConfig, "hiddenSize" | "totalNumHeads" | "totalNumKvHeads" | "headDim"> {
  const hiddenSize = fields.size("hidden_size");
  const totalNumHeads = fields.size("num_attention_heads");
  const totalNumKvHeads = fields.size("num_key_value_heads", totalNumHeads);
  if (totalNumHeads % totalNumKvHeads !== 0) {
    fields.fail("num_key_value_heads", `a divisor of num_attention_heads (${totalNumHeads})`);
  }
  if (!fields.has("head_dim") && hiddenSize % totalNumHeads !== 0) {
    fields.fail(
      "head_dim",
      `a size, as hidden_size (${hiddenSize}) does not divide over ${totalNumHeads} heads`,
    );
  }
  const headDim = fields.size("head_dim", hiddenSize / totalNumHeads);
  const sizes = { hidden_size: hiddenSize, head_dim: headDim };
  for (const [key, size] of Object.entries(sizes)) {
    if (size % ALIGNMENT !== 0) {
      throw new ConfigError({
        what: `${fields.where}: ${key}`,
        expected: `a multiple of ${ALIGNMENT}`,
        got: size,
      });
    }
  }
  return { hiddenSize, totalNumHeads, totalNumKvHeads, headDim };
}

/** Qwen2 always has q, k and v biases and no key that says so; Mistral has none. */
function parseBiases(
  architecture: Architecture,
  fields: Fields,
): Pick<ModelConfig, "attentionBias" | "attentionOutputBias" | "mlpBias"> {
  if (architecture === "Qwen2ForCausalLM") {
    return { attentionBias: true, attentionOutputBias: false, mlpBias: false };
  }
  const hasKey = architecture !== "MistralForCausalLM";
  const attentionBias = hasKey && fields.boolean("attention_bias", false);
  const mlpBias = architecture === "LlamaForCausalLM" && fields.boolean("mlp_bias", false);
  return { attentionBias, attentionOutputBias: attentionBias, mlpBias };
}

const DTYPES: ReadonlyMap<unknown, WeightDType> = new Map([
  ["float32", "f32"],
  ["float16", "f16"],
  ["bfloat16", "bf16"],
]);

function parseDType(fields: Fields): WeightDType | null {
  const key = fields.firstOf("dtype", "torch_dtype");
  if (key === undefined) return null;
  const dtype = DTYPES.get(fields.get(key));
  return dtype ?? fields.fail(key, `one of ${[...DTYPES.keys()].map(show).join(", ")}`);
}
