/**
 * Sampling through the whole runtime: a draw is keyed by seed and position, so neither the layout nor the
 * batch changes it.
 */
import { expect, test } from "vitest";
import type { SamplingOptions } from "../../src/runtime/samplingParams.ts";
import type { RankHooks } from "../../src/runtime/worker.ts";
import { override } from "../support/faults.ts";
import { loadGoldens } from "../support/goldens.ts";
import { testArgs, type TestModel, withModel } from "../support/layouts.ts";

const MODEL = new URL("../../models/checkpoints/fable-5m", import.meta.url).pathname;

const CASES: Readonly<Record<string, SamplingOptions>> = {
  greedy: { temperature: 0 },
  unfiltered: { temperature: 1, seed: 101 },
  topK: { temperature: 0.8, topK: 40, seed: 102 },
  topP: { temperature: 0.9, topP: 0.9, seed: 103 },
  minP: { temperature: 1.2, minP: 0.05, seed: 104 },
  // flat: the nucleus of most rows is hundreds of tokens, far more than the 64 candidates of a shard
  wideTopP: { temperature: 3, topP: 0.99, seed: 105 },
  wideTopK: { temperature: 3, topK: 300, seed: 106 },
  greedyPenalties: { temperature: 0, repetitionPenalty: 1.4, frequencyPenalty: 0.5 },
  penalties: { temperature: 1, repetitionPenalty: 1.3, presencePenalty: 0.8, seed: 101 },
};
const WIDE = ["wideTopP", "wideTopK"];
const NARROW = Object.keys(CASES).filter((name) => !WIDE.includes(name));
const MAX_TOKENS = 8;

/** Tokens by "case/prompt". */
type Drawn = ReadonlyMap<string, readonly number[]>;

/** Prompts by number; those given run as one batch. */
async function draw(
  { llm }: TestModel,
  prompts: ReadonlyMap<number, readonly number[]>,
  names = Object.keys(CASES),
): Promise<Drawn> {
  const numbers = [...prompts.keys()];
  const drawn = new Map<string, readonly number[]>();
  for (const name of names) {
    const options = { maxTokens: MAX_TOKENS, ignoreEos: true, ...CASES[name] };
    const completions = await llm.generateAll([...prompts.values()], options);
    for (const [i, { tokenIds }] of completions.entries()) {
      drawn.set(`${name}/${numbers[i]}`, tokenIds);
    }
  }
  return drawn;
}

/**
 * Logits of two layouts differ by rounding, 1e-5 of their spread. In the draws here that may flip a
 * token in ten thousand: one completion may differ, whereas a mistake in any path changes most of a case.
 */
function expectSame(what: string, got: Drawn, want: Drawn): void {
  const differing = [...got].filter(([key, tokens]) => String(tokens) !== String(want.get(key)));
  console.log(`${what}: ${differing.length} of ${got.size} completions differ`);
  const keys = differing.map(([key]) => key);
  expect(keys.length, `${what}: ${keys.join(", ")} differ`).toBeLessThanOrEqual(1);
}

/** Counts on the picking rank how often whole rows were collected. */
function countingRows(counts: { numGathers: number }): RankHooks {
  return {
    tp: (tp, rank) =>
      override(tp, {
        gatherBytes: (own, root) => {
          if (rank === 0) counts.numGathers += 1;
          return tp.gatherBytes(own, root);
        },
      }),
  };
}

test(
  "the same seed draws the same tokens at tp 1, 2 and 3, alone and in a batch",
  { timeout: 300_000 },
  async () => {
    const goldens = await loadGoldens(MODEL);
    const numbered = goldens.map(({ promptIds }, number) => [number, promptIds] as const);
    const prompts = new Map(numbered.slice(1, 3));
    const third = new Map([[2, prompts.get(2) ?? []]]); // not the first row of the batch
    const one = await withModel(await testArgs(MODEL), async (model) => {
      const batched = await draw(model, prompts);
      expectSame("batch of 1 against batch of 2", await draw(model, third), batched);
      return batched;
    });
    for (const name of ["greedyPenalties", "penalties"]) {
      const plain = name === "penalties" ? "unfiltered" : "greedy"; // the same seed
      expect(one.get(`${name}/1`)).not.toEqual(one.get(`${plain}/1`));
    }
    for (const tpSize of [2, 3]) {
      const counts = { numGathers: 0 };
      const args = await testArgs(MODEL, { tpSize });
      const hooks = countingRows(counts);
      await withModel(
        args,
        async (model) => {
          const narrow = tpSize === 2 ? NARROW : ["unfiltered", "topP", "greedyPenalties"];
          expectSame(`tp ${tpSize} against tp 1`, await draw(model, prompts, narrow), one);
          const before = counts.numGathers;
          expectSame(`tp ${tpSize}, wide rows`, await draw(model, prompts, WIDE), one);
          expect(counts.numGathers - before).toBeGreaterThanOrEqual(MAX_TOKENS);
        },
        hooks,
      );
    }
  },
);
