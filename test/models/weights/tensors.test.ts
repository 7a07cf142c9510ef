import { expect, test } from "vitest";
import { WeightsError } from "../../../src/common/errors.ts";
import { builtinConfig } from "../../../models/config/builtin.ts";
import type { ModelConfig } from "../../../models/config.ts";
import { openCheckpoint } from "../../../models/weights/checkpoint.ts";
import { DummyWeights } from "../../../models/weights/dummy.ts";
import { memoryFiles } from "../../../models/weights/files.ts";
import { shardPlan, targetDType } from "../../../models/weights/plan.ts";
import { type HostTensor, writeSafetensors } from "../../../models/weights/safetensors.ts";
import { checkTensors, expectedTensors } from "../../../models/weights/tensors.ts";
import type { WeightSource } from "../../../models/weights/weightSource.ts";

/** A checkpoint of the config's tensors, changed. */
async function checkpointOf(
  config: ModelConfig,
  change: (tensors: Record<string, HostTensor>) => unknown,
): Promise<WeightSource> {
  const tensors: Record<string, HostTensor> = {};
  for (const { name, shape } of expectedTensors(config)) {
    const numElements = shape.reduce((a, b) => a * b, 1);
    tensors[name] = { dtype: "BF16", shape, bytes: new Uint8Array(2 * numElements) };
  }
  change(tensors);
  const bytes = writeSafetensors(tensors);
  return openCheckpoint(memoryFiles({ "m/model.safetensors": bytes }), "m");
}

const small: ModelConfig = {
  ...builtinConfig("Llama-3.1-8B"),
  vocabSize: 16,
  hiddenSize: 16,
  intermediateSize: 16,
  numLayers: 2,
  totalNumHeads: 2,
  totalNumKvHeads: 1,
  headDim: 8,
};
const q = "model.layers.1.self_attn.q_proj";

test.each<[string, (tensors: Record<string, HostTensor>) => unknown, string]>([
  [
    "lacks a tensor",
    (tensors) => Reflect.deleteProperty(tensors, `${q}.weight`),
    `${q}.weight: expected a tensor [16, 16], as config.json implies, got no such tensor`,
  ],
  [
    "lacks lm_head",
    (tensors) => Reflect.deleteProperty(tensors, "lm_head.weight"),
    "tie_word_embeddings",
  ],
  [
    "has another shape",
    (t) => (t[`${q}.weight`] = { dtype: "BF16", shape: [8, 16], bytes: new Uint8Array(256) }),
    `m/model.safetensors: ${q}.weight: expected [16, 16], as config.json implies, got [8, 16]`,
  ],
  [
    "has another rank of shape",
    (t) => (t["model.norm.weight"] = { dtype: "F32", shape: [16, 1], bytes: new Uint8Array(64) }),
    "expected [16], as config.json implies, got [16, 1]",
  ],
  [
    "has a dtype that weights have not",
    (t) => (t[`${q}.weight`] = { dtype: "I8", shape: [16, 16], bytes: new Uint8Array(256) }),
    `${q}.weight: dtype: expected F32, F16, BF16, got I8`,
  ],
  [
    "has a bias that the config denies",
    (t) => (t[`${q}.bias`] = { dtype: "BF16", shape: [16], bytes: new Uint8Array(32) }),
    `${q}.bias: expected no such tensor in a LlamaForCausalLM of 2 layers`,
  ],
  [
    "has more layers",
    (t) =>
      (t["model.layers.2.mlp.up_proj.weight"] = {
        dtype: "BF16",
        shape: [1],
        bytes: new Uint8Array(2),
      }),
    "model.layers.2.mlp.up_proj.weight: expected no such tensor",
  ],
])("a checkpoint that %s is refused", async (_, change, message) => {
  const source = await checkpointOf(small, change);
  const check = (): void => {
    checkTensors(small, source);
  };
  expect(check).toThrow(WeightsError);
  expect(check).toThrow(message);
});

test("old checkpoints' RoPE frequencies are ignored", async () => {
  const source = await checkpointOf(small, (tensors) => {
    const name = "model.layers.0.self_attn.rotary_emb.inv_freq";
    tensors[name] = { dtype: "F32", shape: [4], bytes: new Uint8Array(16) };
  });
  checkTensors(small, source);
});

test("parts of different dtypes do not merge", async () => {
  const source = await checkpointOf(small, (tensors) => {
    tensors[`${q}.weight`] = { dtype: "F32", shape: [16, 16], bytes: new Uint8Array(1024) };
  });
  const plan = shardPlan(small, { tpSize: 1, ppSize: 1 }, { tpRank: 0, ppRank: 0 });
  const merged = plan.targets.find(({ name }) => name.startsWith("model.layers.1.self_attn.qkv"));
  expect(() => merged && targetDType(merged, source)).toThrow("expected f32, as");
  expect(merged && targetDType(merged, new DummyWeights(small, "f16"))).toBe("f16");
});
