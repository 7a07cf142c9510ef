/** Models of any size without weights: a config.json in a folder of its own, loaded with dummy weights. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

/** One small Llama layer; a test overrides what it is about. */
const SMALL_LLAMA = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  dtype: "bfloat16",
  vocab_size: 320,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 1,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 8,
  max_position_embeddings: 128,
  rms_norm_eps: 1e-5,
  rope_parameters: { rope_type: "default", rope_theta: 10_000 },
  tie_word_embeddings: false,
  bos_token_id: 0,
  eos_token_id: 1,
};

/** Writes the config into a new folder, which the end of the test removes; returns the folder. */
export function dummyModelDir(overrides: Partial<typeof SMALL_LLAMA> = {}): string {
  const dir = mkdtempSync(join(tmpdir(), "tandem-model-"));
  onTestFinished(() => {
    rmSync(dir, { recursive: true, force: true });
  });
  writeFileSync(join(dir, "config.json"), JSON.stringify({ ...SMALL_LLAMA, ...overrides }));
  return dir;
}
