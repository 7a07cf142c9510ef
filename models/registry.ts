/** From the name in config.json's `architectures` to the file that composes it. */
import type { Architecture } from "./config.ts";
import { buildLlama } from "./llama.ts";
import { buildMistral } from "./mistral.ts";
import type { BuildModel } from "./model.ts";
import { buildQwen2 } from "./qwen2.ts";
import { buildQwen3 } from "./qwen3.ts";

export const BUILDERS: Readonly<Record<Architecture, BuildModel>> = {
  LlamaForCausalLM: buildLlama,
  MistralForCausalLM: buildMistral,
  Qwen2ForCausalLM: buildQwen2,
  Qwen3ForCausalLM: buildQwen3,
};
