/** Sizes that the fixtures do not reach: long contexts, large vocabularies, weights past one binding. */
import { describe, expect, test } from "vitest";
import { DummyWeights } from "../../models/weights/dummy.ts";
import { readPacked } from "../../models/weights/weightSource.ts";
import { bf16ToF32 } from "../../src/common/dtype.ts";
import type { Device } from "../../src/device/device.ts";
import type { OpenOptions } from "../../src/device/opener.ts";
import { NodeOpener } from "../../src/device/openNode.ts";
import type { TapRecord } from "../../src/runtime/executor/rankHandle.ts";
import { gatherLogits } from "../../src/runtime/logits.ts";
import type { SamplingOptions } from "../../src/runtime/samplingParams.ts";
import { logitsOracle } from "../oracles/logits.ts";
import { dummyModelDir } from "../support/dummyModels.ts";
import { expectClose, testAdapter } from "../support/gpu.ts";
import {
  expectGreedy,
  fixtureDir,
  loadGoldens,
  LOGIT_TOLERANCE,
  logitError,
  maxErrorInDeviations,
} from "../support/goldens.ts";
import { testArgs, type TestModel, testOpener, withModel } from "../support/layouts.ts";

const FABLE = new URL("../../models/checkpoints/fable-5m", import.meta.url).pathname;

const dummy = { loadFormat: "dummy" } as const;

describe("a context of 1,000 tokens", () => {
  const numDecoded = 10;
  const numPrompt = 1000 - numDecoded;
  const vocabSize = 4096;
  const prompt = Array.from(
    { length: numPrompt },
    (_, i) => (i * 7919 + 31 * (i % 13)) % vocabSize,
  );

  test("in chunks over two ranks equals one chunk on one, and so does decoding on", async () => {
    const two = { tpSize: 2 };
    const inChunks = await withModel(await testArgs(FABLE, two), async ({ llm, executor }) => {
      const options = { temperature: 0, maxTokens: numDecoded, ignoreEos: true };
      const { tokenIds } = await llm.generate(prompt, options).collect();
      const tokens = [...prompt, ...tokenIds];
      return {
        tokenIds,
        tokens,
        logits: await gatherLogits(executor, tokens, { ...two, ppSize: 1 }),
      };
    });
    const { tokens, tokenIds, logits } = inChunks;
    expect(tokens).toHaveLength(1000);
    const whole = await testArgs(FABLE, {}, { maxNumSeqs: 1, maxNumBatchedTokens: 1000 });
    await withModel(whole, async ({ executor }) => {
      const reference = await gatherLogits(executor, tokens, { tpSize: 1, ppSize: 1 });
      expect(maxErrorInDeviations(logits, reference)).toBeLessThan(LOGIT_TOLERANCE);
      const predicted = tokenIds.map((_, i) => bestToken(reference, numPrompt - 1 + i, vocabSize));
      expect(tokenIds).toEqual(predicted);
    });
  });
});

function bestToken(logits: Float32Array, row: number, vocabSize: number): number {
  const values = logits.subarray(row * vocabSize, (row + 1) * vocabSize);
  return values.indexOf(Math.max(...values));
}

/** Checks every row of embedding and lm_head that a prompt touches against the formula, in f64. */
async function expectOracleLogits(model: TestModel, prompt: readonly number[]): Promise<void> {
  const { config, executor } = model;
  const [taps = []] = await executor.forwardTaps(prompt);
  const dummies = new DummyWeights(config, "bf16");
  const weight = async (name: string): Promise<Float32Array> => {
    const { buffer, byteOffset, byteLength } = await readPacked(dummies, name);
    return Float32Array.from(new Uint16Array(buffer, byteOffset, byteLength / 2), bf16ToF32);
  };
  const embedding = await weight("model.embed_tokens.weight");
  const { hiddenSize } = config;
  const rows = prompt.flatMap((id) => [
    ...embedding.subarray(id * hiddenSize, (id + 1) * hiddenSize),
  ]);
  expect([...tapOf(taps, "model.embed_tokens")]).toEqual(rows);
  const wanted = logitsOracle({
    residual: tapOf(taps, "model.layers.0.mlp.down_proj.residual"),
    normWeight: await weight("model.norm.weight"),
    lmHead: config.tieWordEmbeddings ? embedding : await weight("lm_head.weight"),
    eps: config.rmsNormEps,
  });
  const logits = await gatherLogits(executor, prompt, model.resolved.run);
  expectClose(logits, wanted, { rtol: 1e-5, atol: 1e-4 });
}

function tapOf(taps: readonly TapRecord[], name: string): Float32Array {
  const found = taps.find((tap) => tap.name === name);
  if (found === undefined) throw new Error(`no tap ${name}`);
  return found.data;
}

describe("a vocabulary of 70,001 rows", () => {
  const prompts = [[70_000, 65_536, 5, 65_535], [0, 69_999, 65_537], [1234]];
  // of a nearly flat distribution: "top-p" needs whole rows, in "narrow" 64 candidates do
  const samplings: Record<string, SamplingOptions> = {
    greedy: { temperature: 0 },
    unfiltered: { temperature: 1, seed: 11 },
    narrow: { temperature: 0.5, topK: 40, topP: 0.9, seed: 12 },
    "top-p": { temperature: 1, topP: 0.9, seed: 13 },
    penalties: { temperature: 0.3, repetitionPenalty: 1.5, presencePenalty: 1, seed: 14 },
  };

  test("logits are right to the last row; tp 1 and tp 3 draw the same tokens", async () => {
    const dir = dummyModelDir({ vocab_size: 70_001 });
    const drawAll = async (model: TestModel): Promise<Record<string, readonly number[][]>> => {
      const drawn: Record<string, readonly number[][]> = {};
      for (const [name, options] of Object.entries(samplings)) {
        const wanted = { maxTokens: 12, ignoreEos: true, ...options };
        const completions = await model.llm.generateAll(prompts, wanted);
        drawn[name] = completions.map(({ tokenIds }) => [...tokenIds]);
      }
      return drawn;
    };
    const [prompt = []] = prompts;
    const one = await withModel(await testArgs(dir, {}, dummy), async (model) => {
      await expectOracleLogits(model, prompt);
      return await drawAll(model);
    });
    const three = await withModel(await testArgs(dir, { tpSize: 3 }, dummy), async (model) => {
      await expectOracleLogits(model, prompt);
      return await drawAll(model);
    });
    expect(three).toEqual(one);
    const all = Object.values(one).flat(2);
    expect(all.filter((id) => id > 65_535).length).toBeGreaterThan(0);
  });
});

describe("a weight larger than one storage binding", () => {
  test.each([1, 2])("goldens hold where a binding ends at 24 KiB, tp %i", async (tpSize) => {
    const maxBytes = 24 << 10; // the embedding takes 48 KB, gate and up 58 KB
    const dir = fixtureDir("llama-odd");
    const goldens = await loadGoldens(dir);
    // small steps, as activations and caches must fit one binding
    const sizes = { maxNumBatchedTokens: 8, maxModelLen: 128, maxNumSeqs: 1 };
    const args = await testArgs(dir, { tpSize }, sizes);
    await withModel(
      args,
      async (model) => {
        expect(await logitError(model, goldens)).toBeLessThan(LOGIT_TOLERANCE);
        await expectGreedy(model, goldens.slice(1, 2));
      },
      { opener: new LimitedOpener(maxBytes) },
    );
  });

  test("an embedding of 143 MB, past the adapter's own limit", async ({ skip }) => {
    const sizes = { vocab_size: 140_000, hidden_size: 512, head_dim: 64 };
    const bytes = sizes.vocab_size * sizes.hidden_size * 2;
    const [adapter] = (await testOpener.list()).filter(({ name }) => name.includes(testAdapter));
    const limit = adapter?.limits.maxStorageBufferBindingSize ?? 0;
    skip(limit >= bytes, `a binding on ${testAdapter} holds ${limit} bytes`);
    const dir = dummyModelDir({ ...sizes, tie_word_embeddings: true });
    const args = await testArgs(dir, {}, { ...dummy, maxNumBatchedTokens: 8, maxNumSeqs: 1 });
    await withModel(args, async (model) => {
      await expectOracleLogits(model, [139_999, 131_071, 131_072, 3]);
    });
  });
});

/** Devices that claim a small limit, so that small weights are split as large ones are. */
class LimitedOpener extends NodeOpener {
  readonly #maxBytes: number;

  constructor(maxBytes: number) {
    super();
    this.#maxBytes = maxBytes;
  }

  override async open(options: OpenOptions): Promise<Device> {
    const device = await super.open(options);
    const limits = { ...device.info.limits, maxStorageBufferBindingSize: this.#maxBytes };
    Object.defineProperty(device, "info", { value: { ...device.info, limits } });
    return device;
  }
}
