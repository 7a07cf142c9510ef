import { expect, test } from "vitest";
import { LLM } from "../../src/runtime/llm.ts";
import { startRanks } from "../../src/runtime/loadModel.ts";
import type { SamplingOptions } from "../../src/runtime/samplingParams.ts";
import { fixtureDir, loadGoldens } from "../support/goldens.ts";
import { testArgs, testOpener } from "../support/layouts.ts";

const MODEL = fixtureDir("llama-gqa-tied");
const greedy = { temperature: 0, ignoreEos: true, maxTokens: 8, seed: 1 };
const penalised = { ...greedy, repetitionPenalty: 1.4, frequencyPenalty: 0.5 };

// Prefill in chunks, steps of several prompts, and twice over: the second time from the cache.
test.each([{ tpSize: 1 }, { tpSize: 2 }, { ppSize: 2 }])(
  "%o: cached prefixes and micro-batches change no token, with penalties or without",
  async (layout) => {
    const sizes = { maxNumSeqs: 4, maxNumBatchedTokens: 48 };
    const args = await testArgs(MODEL, layout, sizes);
    const started = await startRanks(args, {}, undefined, { opener: testOpener });
    try {
      const prompts = (await loadGoldens(MODEL)).slice(-3).map(({ promptIds }) => promptIds);
      const off = new LLM(started.executor, started.codec, {
        scheduler: { enablePrefixCaching: false },
      });
      const solo = async (sampling: SamplingOptions): Promise<(readonly number[])[]> => {
        const all: (readonly number[])[] = [];
        for (const prompt of prompts) {
          all.push((await off.generate(prompt, sampling).collect()).tokenIds);
        }
        return all;
      };
      const expected = [await solo(greedy), await solo(penalised)];
      const llm = new LLM(started.executor, started.codec);
      for (let round = 0; round < 2; round++) {
        for (const [i, sampling] of [greedy, penalised].entries()) {
          const completions = await llm.generateAll(prompts, sampling);
          expect(completions.map(({ tokenIds }) => tokenIds)).toEqual(expected[i]);
          const cached = completions.map(({ usage }) => usage.cachedTokens);
          const isRepeated = round + i > 0;
          for (const [p, prompt] of prompts.entries()) {
            const most = Math.floor((prompt.length - 1) / 16) * 16;
            expect(cached[p]).toBe(isRepeated ? most : cached[p]);
          }
          if (isRepeated) expect(Math.max(...cached)).toBeGreaterThan(0);
        }
      }
      const choices = llm.engine.addFork(
        { promptTokenIds: prompts.at(-1) ?? [], sampling: penalised },
        2,
      );
      const texts = await Promise.all(choices.map((choice) => choice.collect()));
      expect(texts.map(({ tokenIds }) => tokenIds)).toEqual([
        expected[1]?.at(-1),
        expected[1]?.at(-1),
      ]);
    } finally {
      await started.executor.shutdown();
    }
  },
);
