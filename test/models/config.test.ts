import { expect, test } from "vitest";
import { ConfigError } from "../../src/common/errors.ts";
import { BUILTIN_NAMES, builtinConfig } from "../../models/config/builtin.ts";
import { loadConfig, parseConfig } from "../../models/config.ts";
import { memoryFiles } from "../../models/weights/files.ts";
import { nodeFiles } from "../../models/weights/filesNode.ts";

const fixtures = new URL("../fixtures/", import.meta.url).pathname;

/** As transformers 4 wrote it. */
const old = {
  architectures: ["LlamaForCausalLM"],
  vocab_size: 512,
  hidden_size: 64,
  intermediate_size: 172,
  num_hidden_layers: 5,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  max_position_embeddings: 512,
  rms_norm_eps: 1e-5,
  rope_theta: 5000,
  tie_word_embeddings: true,
  hidden_act: "silu",
  bos_token_id: 1,
  eos_token_id: 2,
  torch_dtype: "float32",
};

const llama3Scaling = {
  rope_type: "llama3",
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 64,
};

function parse(changes: Record<string, unknown> = {}): ReturnType<typeof parseConfig> {
  return parseConfig({ ...old, ...changes }, "config.json");
}

test("a transformers 4 config is read whole", () => {
  expect(parse()).toEqual({
    architecture: "LlamaForCausalLM",
    vocabSize: 512,
    hiddenSize: 64,
    intermediateSize: 172,
    numLayers: 5,
    totalNumHeads: 8,
    totalNumKvHeads: 4,
    headDim: 8,
    maxPositionEmbeddings: 512,
    rmsNormEps: 1e-5,
    rope: { type: "default", theta: 5000 },
    tieWordEmbeddings: true,
    slidingWindows: [null, null, null, null, null],
    attentionBias: false,
    attentionOutputBias: false,
    mlpBias: false,
    qkNorm: false,
    dtype: "f32",
    bosTokenId: 1,
    eosTokenIds: [2],
  });
});

test.each([
  ["llama-mha", { architecture: "LlamaForCausalLM", totalNumKvHeads: 8 }],
  ["llama-gqa-tied", { tieWordEmbeddings: true, dtype: "bf16" }],
  ["llama-odd", { hiddenSize: 72, totalNumHeads: 9, totalNumKvHeads: 3, headDim: 16 }],
  [
    "llama3-rope",
    {
      rope: {
        type: "llama3",
        theta: 500000,
        factor: 8,
        lowFreqFactor: 1,
        highFreqFactor: 4,
        originalMaxPositionEmbeddings: 64,
      },
    },
  ],
  ["mistral-swa", { slidingWindows: [24, 24, 24], attentionBias: false }],
  ["qwen2-bias", { attentionBias: true, attentionOutputBias: false, headDim: 8 }],
  ["qwen3-qknorm", { qkNorm: true, headDim: 32, slidingWindows: [null, null, null] }],
])("the transformers 5 config of fixture %s", async (name, traits) => {
  const { config } = await loadConfig(nodeFiles, fixtures + name);
  expect(config).toMatchObject({ eosTokenIds: [1], bosTokenId: 0, ...traits });
});

test("both spellings of RoPE scaling give one setting", () => {
  const rope = { ...llama3Scaling, rope_theta: 5000 };
  expect(parse({ rope_scaling: llama3Scaling }).rope).toEqual(
    parse({ rope_theta: undefined, rope_parameters: rope }).rope,
  );
  const linear = { type: "linear", factor: 2.5 };
  expect(parse({ rope_scaling: linear }).rope).toEqual({
    type: "linear",
    theta: 5000,
    factor: 2.5,
  });
});

test("a Mistral without a sliding_window key has transformers' default, with null none", () => {
  const mistral = { architectures: ["MistralForCausalLM"], num_hidden_layers: 2 };
  expect(parse(mistral).slidingWindows).toEqual([4096, 4096]);
  expect(parse({ ...mistral, sliding_window: null }).slidingWindows).toEqual([null, null]);
});

test("Qwen2 slides from max_window_layers on, or by layer_types, and only when asked to", () => {
  const qwen = { architectures: ["Qwen2ForCausalLM"], num_hidden_layers: 3, sliding_window: 16 };
  expect(parse(qwen).slidingWindows).toEqual([null, null, null]);
  const on = { ...qwen, use_sliding_window: true, max_window_layers: 2 };
  expect(parse(on).slidingWindows).toEqual([null, null, 16]);
  const types = ["sliding_attention", "full_attention", "sliding_attention"];
  expect(parse({ ...on, layer_types: types }).slidingWindows).toEqual([16, null, 16]);
  expect(() => parse({ ...on, layer_types: types.slice(1) })).toThrow("layer_types: expected 3");
});

test("attention_bias of Llama puts one on the output projection too", () => {
  expect(parse({ attention_bias: true })).toMatchObject({ attentionOutputBias: true });
});

test("without architectures, model_type decides", () => {
  const config = parse({ architectures: undefined, model_type: "qwen3" });
  expect(config.architecture).toBe("Qwen3ForCausalLM");
});

test.each<[Record<string, unknown>, string]>([
  [{ architectures: ["GPT2LMHeadModel"] }, "expected one of LlamaForCausalLM, MistralForCausalLM"],
  [{ architectures: ["MixtralForCausalLM"] }, 'got ["MixtralForCausalLM"]'],
  [{ architectures: undefined, model_type: "gpt2" }, "model_type: expected one of llama, mistral"],
  [{ architectures: undefined }, "architectures: expected one of LlamaForCausalLM"],
  [{ hidden_size: undefined }, "hidden_size: expected a whole number"],
  [{ hidden_size: "64" }, 'hidden_size: expected a whole number from 1 to 2147483647, got "64"'],
  [{ vocab_size: 0 }, "vocab_size"],
  [{ num_hidden_layers: 2.5 }, "num_hidden_layers"],
  [{ num_hidden_layers: 1e9 }, "num_hidden_layers: expected at most 10000"],
  [{ intermediate_size: -8 }, "intermediate_size"],
  [
    { num_key_value_heads: 3 },
    "num_key_value_heads: expected a divisor of num_attention_heads (8)",
  ],
  [{ hidden_size: 72, num_attention_heads: 7, num_key_value_heads: 7 }, "head_dim"],
  [{ head_dim: 12 }, "head_dim: expected a multiple of 8, got 12"],
  [{ hidden_size: 68, head_dim: 8 }, "hidden_size: expected a multiple of 8, got 68"],
  [{ rms_norm_eps: 0 }, "rms_norm_eps: expected a number above 0"],
  [{ rope_theta: "x" }, "rope_theta"],
  [
    { rope_scaling: { rope_type: "yarn", factor: 4 } },
    'expected default, linear or llama3, got "yarn"',
  ],
  [{ rope_scaling: { type: "dynamic", factor: 4 } }, "default, linear or llama3"],
  [{ rope_parameters: { rope_type: "longrope" } }, "config.json: rope_parameters: rope_type"],
  [{ rope_scaling: { type: "linear" } }, "factor"],
  [{ rope_scaling: { ...llama3Scaling, high_freq_factor: 1 } }, "more than low_freq_factor (1)"],
  [{ rope_scaling: { ...llama3Scaling, original_max_position_embeddings: null } }, "original_max"],
  [{ rope_parameters: { full_attention: { rope_type: "default" } } }, "one RoPE setting"],
  [{ partial_rotary_factor: 0.5 }, "partial_rotary_factor"],
  [{ hidden_act: "gelu" }, 'hidden_act: expected "silu", got "gelu"'],
  [{ quantization_config: { quant_method: "awq" } }, "quantization_config"],
  [{ torch_dtype: "float8_e4m3fn" }, "torch_dtype"],
  [{ eos_token_id: "2" }, "eos_token_id"],
  [{ eos_token_id: [-1] }, "eos_token_id"],
  [{ tie_word_embeddings: 1 }, "tie_word_embeddings: expected true or false, got 1"],
])("a config with %j is refused", (changes, message) => {
  expect(() => parse(changes)).toThrow(ConfigError);
  expect(() => parse(changes)).toThrow(message);
});

test("generation_config.json brings stop tokens and sampling defaults", async () => {
  const files = memoryFiles({
    "m/config.json": JSON.stringify(old),
    "m/generation_config.json": JSON.stringify({
      eos_token_id: [7, 9],
      do_sample: true,
      temperature: 0.6,
      top_p: 0.95,
    }),
  });
  const { config, generation } = await loadConfig(files, "m");
  expect(config.eosTokenIds).toEqual([7, 9]);
  expect(generation).toEqual({
    doSample: true,
    temperature: 0.6,
    topK: null,
    topP: 0.95,
    minP: null,
    repetitionPenalty: null,
  });
});

test.each<[Record<string, string>, string]>([
  [
    {},
    "m/config.json: expected a Hugging Face model directory with a config.json, got no such file",
  ],
  [{ "m/config.json": "{" }, "m/config.json: expected valid JSON"],
  [{ "m/config.json": "[]" }, "m/config.json: expected a JSON object, got []"],
  [
    { "m/config.json": JSON.stringify(old), "m/generation_config.json": '{"temperature": "hot"}' },
    'm/generation_config.json: temperature: expected a number, got "hot"',
  ],
])("a directory of %j is refused", async (contents, message) => {
  const load = loadConfig(memoryFiles(contents), "m");
  await expect(load).rejects.toThrow(ConfigError);
  await expect(load).rejects.toThrow(message);
});

test("built-in shapes have the published number of parameters", () => {
  const billions = BUILTIN_NAMES.map((name) => {
    const { vocabSize, hiddenSize, intermediateSize, ...c } = builtinConfig(name);
    const attention = 2 * hiddenSize * c.headDim * (c.totalNumHeads + c.totalNumKvHeads);
    const layer = attention + 3 * hiddenSize * intermediateSize;
    const vocab = vocabSize * hiddenSize * (c.tieWordEmbeddings ? 1 : 2);
    return [name, Math.round((vocab + c.numLayers * layer) / 1e7) / 100];
  });
  expect(Object.fromEntries(billions)).toEqual({
    "Llama-3.2-1B": 1.24,
    "Llama-3.2-3B": 3.21,
    "Llama-3.1-8B": 8.03,
    "Llama-3.1-70B": 70.55,
    "Qwen3-0.6B": 0.6,
  });
  expect(builtinConfig("llama-3.1-8b").numLayers).toBe(32);
  expect(() => builtinConfig("Llama-9")).toThrow("Llama-3.2-1B, Llama-3.2-3B");
});
