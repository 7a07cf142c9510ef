import fc from "fast-check";
import { expect, test } from "vitest";
import { ShardingError } from "../../../src/common/errors.ts";
import { builtinConfig } from "../../../models/config/builtin.ts";
import { loadConfig, type ModelConfig } from "../../../models/config.ts";
import { checkLayout, type Layout } from "../../../models/sharding.ts";
import { openCheckpoint } from "../../../models/weights/checkpoint.ts";
import { nodeFiles } from "../../../models/weights/filesNode.ts";
import {
  planBytes,
  type ShardPlan,
  shardPlan,
  targetDType,
  type TargetTensor,
} from "../../../models/weights/plan.ts";
import { checkTensors, expectedTensors } from "../../../models/weights/tensors.ts";
import { sizeOf, type WeightSource } from "../../../models/weights/weightSource.ts";

const fixtures = new URL("../../fixtures/", import.meta.url).pathname;
const dense = [
  "llama-mha",
  "llama-gqa-tied",
  "llama3-rope",
  "llama-odd",
  "qwen2-bias",
  "qwen3-qknorm",
  "mistral-swa",
];

async function fixture(name: string): Promise<{ config: ModelConfig; source: WeightSource }> {
  const { config } = await loadConfig(nodeFiles, fixtures + name);
  return { config, source: await openCheckpoint(nodeFiles, fixtures + name) };
}

function allPlans(config: ModelConfig, layout: Layout): ShardPlan[] {
  return Array.from({ length: layout.ppSize * layout.tpSize }, (_, rank) =>
    shardPlan(config, layout, {
      tpRank: rank % layout.tpSize,
      ppRank: Math.floor(rank / layout.tpSize),
    }),
  );
}

/** For each source tensor, how often each of its elements is loaded, over the given targets. */
function timesLoaded(targets: readonly TargetTensor[], config: ModelConfig): Map<string, number[]> {
  const times = new Map<string, number[]>();
  const shapes = new Map(expectedTensors(config).map(({ name, shape }) => [name, shape]));
  for (const { source, rows, columns } of targets.flatMap(({ parts }) => parts)) {
    const [numRows = 0, numColumns = 1] = shapes.get(source) ?? [];
    const counts = times.get(source) ?? new Array<number>(numRows * numColumns).fill(0);
    const { begin, end } = columns ?? { begin: 0, end: 1 };
    for (let row = rows.begin; row < rows.end; row += 1) {
      for (let column = begin; column < end; column += 1) {
        const at = row * numColumns + column;
        counts[at] = (counts[at] ?? 0) + 1;
      }
    }
    times.set(source, counts);
  }
  return times;
}

test.each(dense)("fixture %s passes the check against its checkpoint", async (name) => {
  const { config, source } = await fixture(name);
  checkTensors(config, source);
  expect(targetDType({ name: "", layer: null, shape: [], parts: [] }, source)).toBe("f32");
  for (const target of shardPlan(config, { tpSize: 2, ppSize: 1 }, { tpRank: 1, ppRank: 0 })
    .targets) {
    expect(targetDType(target, source)).toBe("bf16");
  }
});

test.each(dense)("%s: over all ranks, every split weight is loaded exactly once", async (name) => {
  const { config } = await fixture(name);
  const tied = config.tieWordEmbeddings;
  for (let tpSize = 1; tpSize <= 8; tpSize += 1) {
    for (const ppSize of [1, 2, 3]) {
      const targets = allPlans(config, { tpSize, ppSize }).flatMap((plan) => plan.targets);
      const times = timesLoaded(targets, config);
      expect([...times.keys()].sort()).toEqual(
        expectedTensors(config)
          .map((tensor) => tensor.name)
          .sort(),
      );
      for (const [source, counts] of times) {
        const replicas = /embed_tokens/.test(source)
          ? tpSize + (tied ? 1 : 0)
          : /norm\.weight$/.test(source)
            ? tpSize
            : 1;
        const isReplicatedKv = /[kv]_proj/.test(source) && tpSize > config.totalNumKvHeads;
        if (isReplicatedKv) expect(Math.min(...counts)).toBeGreaterThanOrEqual(1);
        else expect(new Set(counts), `${source} tp${tpSize}`).toEqual(new Set([replicas]));
      }
    }
  }
});

/** Any small config, sizes that divide by nothing. */
const configs: fc.Arbitrary<ModelConfig> = fc
  .record({
    totalNumKvHeads: fc.integer({ min: 1, max: 4 }),
    group: fc.integer({ min: 1, max: 3 }),
    intermediateSize: fc.integer({ min: 60, max: 200 }),
    mlpBias: fc.boolean(),
    attentionBias: fc.boolean(),
    qkNorm: fc.boolean(),
  })
  .map(({ group, ...rest }) => ({
    ...builtinConfig("Qwen3-0.6B"),
    ...rest,
    totalNumHeads: rest.totalNumKvHeads * group,
    hiddenSize: 32,
    headDim: 8,
    vocabSize: 50,
    numLayers: 2,
    attentionOutputBias: rest.attentionBias,
    slidingWindows: [null, null],
  }));

test("parts lie inside their target, in order, and merge without overlap", () => {
  fc.assert(
    fc.property(configs, fc.integer({ min: 1, max: 8 }), (config, tpSize) => {
      fc.pre(tpSize <= config.totalNumHeads);
      for (const { targets } of allPlans(config, { tpSize, ppSize: 2 })) {
        for (const { shape, parts } of targets) {
          const [numRows = 0, width = 1] = shape;
          expect(width === 1 || width % 8 === 0).toBe(true);
          let filled = 0;
          for (const part of parts) {
            expect(part.destinationRow).toBeGreaterThanOrEqual(filled);
            filled = part.destinationRow + sizeOf(part.rows);
            if (part.columns) expect(sizeOf(part.columns)).toBeGreaterThan(width - 8);
          }
          expect(filled).toBeGreaterThan(numRows - 8);
          expect(filled).toBeLessThanOrEqual(numRows);
        }
      }
    }),
  );
});

test("stories260k's shape at tp 4: 172 FFN columns in units of 8, the last one padded", () => {
  const config = { ...builtinConfig("Llama-3.2-1B"), intermediateSize: 172 };
  const { targets } = shardPlan(config, { tpSize: 4, ppSize: 1 }, { tpRank: 3, ppRank: 0 });
  const find = (name: string): TargetTensor | undefined =>
    targets.find((target) => target.name === `model.layers.0.mlp.${name}.weight`);
  const rows = { begin: 136, end: 172 };
  const hidden = { begin: 0, end: 2048 };
  expect(find("gate_up_proj")).toMatchObject({
    shape: [80, 2048],
    parts: [
      { rows, columns: hidden, destinationRow: 0 },
      { rows, columns: hidden, destinationRow: 40 },
    ],
  });
  expect(find("down_proj")).toMatchObject({
    shape: [2048, 40],
    parts: [{ rows: hidden, columns: rows }],
  });
});

test("the bias of a row-parallel layer is on tp rank 0 alone", () => {
  const config = { ...builtinConfig("Llama-3.2-1B"), attentionOutputBias: true, mlpBias: true };
  const biases = [0, 1].map((tpRank) =>
    shardPlan(config, { tpSize: 2, ppSize: 16 }, { tpRank, ppRank: 3 })
      .targets.map(({ name }) => name)
      .filter((name) => name.endsWith(".bias")),
  );
  expect(biases).toEqual([
    [
      "model.layers.3.self_attn.o_proj.bias",
      "model.layers.3.mlp.gate_up_proj.bias",
      "model.layers.3.mlp.down_proj.bias",
    ],
    ["model.layers.3.mlp.gate_up_proj.bias"],
  ]);
});

test("a tied lm_head is the last stage's own copy, split over the vocabulary", () => {
  const config = builtinConfig("Llama-3.2-1B");
  const plan = shardPlan(config, { tpSize: 2, ppSize: 2 }, { tpRank: 1, ppRank: 1 });
  expect(plan.layers).toEqual({ begin: 8, end: 16 });
  expect(plan.targets.at(-1)).toEqual({
    name: "lm_head.weight",
    layer: null,
    shape: [64_128, 2048],
    parts: [
      {
        source: "model.embed_tokens.weight",
        rows: { begin: 64_128, end: 128_256 },
        columns: { begin: 0, end: 2048 },
        destinationRow: 0,
      },
    ],
  });
  expect(plan.targets.some(({ name }) => name === "model.embed_tokens.weight")).toBe(false);
});

test("planBytes adds up to the model", () => {
  const plan = shardPlan(
    builtinConfig("Llama-3.1-8B"),
    { tpSize: 1, ppSize: 1 },
    { tpRank: 0, ppRank: 0 },
  );
  expect(planBytes(plan, "bf16")).toBe(2 * 8_030_261_248); // the published parameter count
});

test("a layout that cannot be is refused by the plan", () => {
  const config = builtinConfig("Llama-3.2-1B");
  const layout = { tpSize: 33, ppSize: 1 };
  const rank = { tpRank: 0, ppRank: 0 };
  expect(() => shardPlan(config, layout, rank)).toThrow(ShardingError);
  expect(() => {
    checkLayout(config, { tpSize: 32, ppSize: 16 });
  }).not.toThrow();
});
