/**
 * What requests ask of sampling beyond the draw, through the whole runtime: biases, bans, masks,
 * log-probabilities. Expectations come from the logits of every token, as taps give them.
 */
import { expect, test } from "vitest";
import { sizeOf, type Range } from "../../models/weights/weightSource.ts";
import { vocabShard } from "../../models/sharding.ts";
import { gatherLogits } from "../../src/runtime/logits.ts";
import type { Completion } from "../../src/runtime/request.ts";
import type { SamplingOptions } from "../../src/runtime/samplingParams.ts";
import { tokenMaskOf } from "../../src/runtime/tokenMask.ts";
import { type OracleRow, penaltiesOracle, sampleOracle, sortedIds } from "../oracles/sampling.ts";
import { loadGoldens } from "../support/goldens.ts";
import { testArgs, type TestModel, withModel } from "../support/layouts.ts";

const MODEL = new URL("../../models/checkpoints/fable-5m", import.meta.url).pathname;
const VOCAB = 4096;
const MAX_TOKENS = 6;

/** Narrow rows are decided by 64 candidates a shard, wide ones by whole rows. */
const DRAWS: Readonly<Record<string, SamplingOptions>> = {
  greedy: { temperature: 0 },
  unfiltered: { temperature: 1, seed: 11 },
  narrow: { temperature: 1.5, topK: 40, topP: 0.95, seed: 12 },
  wideTopP: { temperature: 3, topP: 0.99, seed: 13 },
  wideTopK: { temperature: 3, topK: 300, minP: 0.001, seed: 14 },
  penalties: { temperature: 1, repetitionPenalty: 1.3, frequencyPenalty: 0.5, seed: 15 },
};
const LAYOUTS = [{ tpSize: 1 }, { tpSize: 2 }];
/** Tokens of both shards at tp 2, its border and the ends included. */
const SPREAD = [0, 2047, 2048, 4095];

type Prompts = readonly (readonly number[])[];

async function withPrompts(
  layout: { tpSize: number },
  use: (model: TestModel, prompts: Prompts) => Promise<void>,
): Promise<void> {
  const goldens = await loadGoldens(MODEL);
  const args = await testArgs(MODEL, layout);
  const prompts = goldens.map(({ promptIds }) => promptIds);
  await withModel(args, (model) => use(model, prompts));
}

interface Ask {
  readonly prompt: readonly number[];
  readonly sampling?: SamplingOptions;
  readonly allowed?: readonly number[];
}

/** One batch. */
async function complete({ llm }: TestModel, asks: readonly Ask[]): Promise<Completion[]> {
  const streams = asks.map(({ prompt, sampling, allowed }) =>
    llm.engine.addRequest({
      promptTokenIds: prompt,
      sampling: { maxTokens: MAX_TOKENS, ignoreEos: true, ...sampling },
      ...(allowed === undefined ? {} : { allowedTokens: () => tokenMaskOf(allowed, VOCAB) }),
    }),
  );
  return await Promise.all(streams.map((stream) => stream.collect()));
}

async function tokensOf(model: TestModel, asks: readonly Ask[]): Promise<number[][]> {
  return (await complete(model, asks)).map(({ tokenIds }) => [...tokenIds]);
}

/** Logits of each token of a sequence, [vocab] each. */
async function logitRows(model: TestModel, tokenIds: readonly number[]): Promise<Float32Array[]> {
  const all = await gatherLogits(model.executor, tokenIds, model.resolved.run);
  return tokenIds.map((_, row) => all.subarray(row * VOCAB, (row + 1) * VOCAB));
}

async function lastLogits(model: TestModel, prompt: readonly number[]): Promise<Float32Array> {
  return (await logitRows(model, prompt)).at(-1) ?? new Float32Array(VOCAB);
}

const repeated = (tokenId: number): number[] => new Array<number>(MAX_TOKENS).fill(tokenId);

for (const layout of LAYOUTS) {
  const name = `tp ${layout.tpSize}`;

  test(`${name}: a bias forces, forbids, or is added exactly`, async () => {
    await withPrompts(layout, async (model, [prompt = [], other = []]) => {
      for (const [draw, sampling] of Object.entries(DRAWS)) {
        const asks = SPREAD.map((id) => ({
          prompt,
          sampling: { ...sampling, repetitionPenalty: 1, logitBias: { [id]: 100 } },
        }));
        expect(await tokensOf(model, asks), draw).toEqual(SPREAD.map(repeated));
      }
      const [plain = [], otherPlain = []] = await tokensOf(model, [
        { prompt, sampling: { temperature: 0 } },
        { prompt: other, sampling: { temperature: 0 } },
      ]);
      const logitBias = Object.fromEntries(plain.map((id) => [id, -100]));
      const [without = [], untouched] = await tokensOf(model, [
        { prompt, sampling: { temperature: 0, logitBias } },
        { prompt: other, sampling: { temperature: 0 } },
      ]);
      expect(without.filter((id) => plain.includes(id))).toEqual([]);
      expect(untouched).toEqual(otherPlain);

      const logits = await lastLogits(model, prompt);
      const [best = 0, ...later] = sortedIds(logits);
      for (const id of [later[50] ?? 0, later[51] ?? 0, later[2000] ?? 0]) {
        const gap = (logits[best] ?? 0) - (logits[id] ?? 0);
        const firsts = await tokensOf(
          model,
          [0.01, -0.01].map((more) => ({
            prompt,
            sampling: { temperature: 0, maxTokens: 1, logitBias: { [id]: gap + more } },
          })),
        );
        expect(firsts, `bias ${gap} of token ${id}`).toEqual([[id], [best]]);
      }
    });
  });

  test(`${name}: a bias comes before penalties, as in vLLM`, async () => {
    await withPrompts(layout, async (model, [prompt = []]) => {
      const penalties = { repetition: 2, frequency: 0, presence: 0 };
      const logits = await lastLogits(model, prompt);
      const id = prompt.at(-1) ?? 0;
      const rivals = penaltiesOracle(logits, prompt, [], penalties).fill(-Infinity, id, id + 1);
      const best = sortedIds(rivals)[0] ?? 0;
      const firsts = await tokensOf(
        model,
        [0.01, -0.01].map((more) => {
          const goal = (rivals[best] ?? 0) + more; // after the penalty
          const bias = (goal > 0 ? goal * 2 : goal / 2) - (logits[id] ?? 0);
          const logitBias = { [id]: bias };
          return {
            prompt,
            sampling: { temperature: 0, maxTokens: 1, repetitionPenalty: 2, logitBias },
          };
        }),
      );
      expect(firsts).toEqual([[id], [best]]);
    });
  });

  test(`${name}: only tokens of the mask are sampled`, async () => {
    await withPrompts(layout, async (model, [prompt = [], other = []]) => {
      const plain = await tokensOf(model, [{ prompt: other, sampling: { temperature: 0 } }]);
      const raw = await lastLogits(model, prompt);
      for (const allowed of [
        [31, 2047, 4000],
        [32, 2048, 4095],
      ]) {
        for (const [draw, sampling] of Object.entries(DRAWS)) {
          const [first = [], second = [], unmasked] = await tokensOf(model, [
            { prompt, sampling, allowed },
            { prompt, sampling: { ...sampling, seed: 99 }, allowed },
            { prompt: other, sampling: { temperature: 0 } },
          ]);
          const wild = [...first, ...second].filter((id) => !allowed.includes(id));
          expect(wild, `${draw}, ${String(allowed)}`).toEqual([]);
          expect(unmasked).toEqual(plain[0]);
          if (draw === "penalties") continue;
          const logits = raw.map((logit, id) => (allowed.includes(id) ? logit : -Infinity));
          const { tokenId, margin } = sampleOracle(logits, oracleRow(sampling, prompt.length));
          if (margin > 1e-3) expect(first[0], `${draw}, ${String(allowed)}`).toBe(tokenId);
        }
      }
    });
  });

  test(`${name}: stop tokens are banned before minTokens, few or many, masked or not`, async () => {
    await withPrompts(layout, async (model, [prompt = []]) => {
      const ids = sortedIds(await lastLogits(model, prompt));
      const many = ids.slice(0, 100); // more than the table takes
      for (const banned of [ids.slice(0, 3), many]) {
        const sampling = { minTokens: 4, stopTokenIds: banned };
        const bans = { ...sampling, temperature: 0, ignoreEos: true };
        const [plain = []] = await tokensOf(model, [{ prompt, sampling: bans }]);
        expect(plain.slice(0, 4).filter((id) => banned.includes(id))).toEqual([]);
        const next = ids.find((id) => !banned.includes(id));
        expect(plain[0]).toBe(next);
        const allowed = [ids[0] ?? 0, ids[200] ?? 0, ids[201] ?? 0];
        const [masked] = await tokensOf(model, [{ prompt, sampling: bans, allowed }]);
        expect(masked?.[0]).toBe(ids[200]);
        const biased = { ...bans, logitBias: { [ids[0] ?? 0]: 100 } };
        const [stopped = []] = await tokensOf(model, [{ prompt, sampling: biased }]);
        expect(stopped.length, "a banned token is not biased; after minTokens it is").toBe(5);
      }
    });
  });

  test(`${name}: logprobs are those of the raw logits`, { timeout: 200_000 }, async () => {
    await withPrompts(layout, async (model, prompts) => {
      const asks: Ask[] = Object.values(DRAWS).map((sampling, i) => ({
        prompt: prompts[i % prompts.length] ?? [],
        sampling: { ...sampling, logprobs: [0, 1, 5, 20][i % 4], logitBias: { 7: 3, 4001: 3 } },
      }));
      const silent: Ask = { prompt: prompts[0] ?? [], sampling: { temperature: 1, seed: 3 } };
      const completions = await complete(model, [...asks.slice(0, 2), silent, ...asks.slice(2)]);
      expect(completions[2]?.logprobs).toBeNull();
      const asking = completions.filter(({ sampling }) => sampling.logprobs !== null);
      expect(asking.length).toBe(asks.length);
      let maxError = 0;
      for (const completion of asking) {
        const { promptTokenIds, tokenIds, logprobs, sampling } = completion;
        expect(logprobs?.map(({ tokenId }) => tokenId)).toEqual(tokenIds);
        const rows = await logitRows(model, [...promptTokenIds, ...tokenIds]);
        for (const [i, { tokenId, logprob, top }] of (logprobs ?? []).entries()) {
          const want = logSoftmax(rows[promptTokenIds.length - 1 + i] ?? []);
          const sorted = want.toSorted((a, b) => b - a);
          const errors = top.flatMap(([id, value], k) => [
            Math.abs(value - (want[id] ?? 0)),
            Math.abs(value - (sorted[k] ?? 0)),
          ]);
          maxError = Math.max(maxError, Math.abs(logprob - (want[tokenId] ?? 0)), ...errors);
          expect(new Set(top.map(([id]) => id)).size).toBe(sampling.logprobs);
          const mass = top.reduce((sum, [, value]) => sum + Math.exp(value), 0);
          expect(mass).toBeLessThan(1 + 1e-6);
        }
      }
      console.log(`${name}: largest error of a log-probability ${maxError}`);
      expect(maxError).toBeLessThan(1e-4);
    });
  });

  test(`${name}: only steps with these fields pay for them`, async () => {
    await withPrompts(layout, async (model, [prompt = []]) => {
      const launches = async (ask: Partial<Ask>): Promise<number[]> => {
        const { sampling, ...rest } = ask;
        await model.executor.resetStats();
        await complete(model, [{ prompt, sampling: { temperature: 0, ...sampling }, ...rest }]);
        return (await model.executor.stats()).map(({ numLaunches }) => numLaunches);
      };
      const buffers = async (): Promise<number[]> =>
        (await model.executor.stats()).map((stats) => stats.buffers);
      await launches({}); // finds its prompt in the cache from here on
      const plain = await launches({});
      const before = await buffers();
      const withOne = plain.map((count) => count + MAX_TOKENS);
      const logitBias = { 3: 1, 4001: 1 }; // one in each shard at tp 2
      expect(await launches({ sampling: { logitBias } })).toEqual(withOne);
      expect(await launches({ allowed: [3, 4001] })).toEqual(withOne);
      expect(await launches({ sampling: { logprobs: 3 } })).toEqual(plain);
      expect(await launches({})).toEqual(plain);
      expect(await buffers()).toEqual(before);
      const shards = shardsOf(layout.tpSize);
      const oneSided = await launches({ sampling: { logitBias: { 3: 1 } } });
      const holds = shards.map(({ begin, end }) => begin <= 3 && 3 < end);
      expect(oneSided).toEqual(plain.map((count, i) => count + (holds[i] ? MAX_TOKENS : 0)));
    });
  });

  test(`${name}: log-probabilities of prompts, beside other requests, touch nobody's tokens`, async () => {
    await withPrompts(layout, async (model, [prompt = [], other = []]) => {
      const long = [...prompt, ...other, ...prompt, ...other].slice(0, 40); // many chunks of 4 rows
      const others: Ask[] = [other, prompt].map((each) => ({
        prompt: each,
        sampling: { temperature: 1, seed: 4, repetitionPenalty: 1.2 },
      }));
      const alone = await tokensOf(model, others);
      const asking = { prompt: long, sampling: { temperature: 0, promptLogprobs: 3, logprobs: 0 } };
      const plain = await tokensOf(model, [{ prompt: long, sampling: { temperature: 0 } }]);
      const [first, ...rest] = await complete(model, [asking, ...others]);
      expect(rest.map(({ tokenIds }) => tokenIds)).toEqual(alone);
      expect(first?.tokenIds).toEqual(plain[0]);
      const rows = await logitRows(model, long);
      const found = first?.promptLogprobs ?? [];
      expect([found.length, found[0]]).toEqual([long.length, null]);
      for (const [i, entry] of found.slice(1).entries()) {
        const want = logSoftmax(rows[i] ?? []);
        const best = sortedIds(Float32Array.from(want))[0] ?? 0;
        expect(entry?.tokenId).toBe(long[i + 1]);
        expect(entry?.logprob).toBeCloseTo(want[long[i + 1] ?? 0] ?? NaN, 3);
        expect(entry?.top[0]?.[1]).toBeCloseTo(want[best] ?? NaN, 3);
        expect(entry?.top).toHaveLength(3);
      }
    });
  });
}

function oracleRow(sampling: SamplingOptions, position: number): OracleRow {
  const { temperature = 1, topK = 0, topP = 1, minP = 0, seed = 0 } = sampling;
  return { temperature, topK, topP, minP, seed, position, isGreedy: temperature === 0 };
}

function shardsOf(tpSize: number): Range[] {
  const shards = Array.from({ length: tpSize }, (_, rank) =>
    vocabShard({ vocabSize: VOCAB }, tpSize, rank),
  );
  expect(shards.reduce((sum, shard) => sum + sizeOf(shard), 0)).toBe(VOCAB);
  return shards;
}

function logSoftmax(logits: ArrayLike<number>): Float64Array {
  const values = Float64Array.from(logits);
  const max = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const sum = values.reduce((total, value) => total + Math.exp(value - max), 0);
  return values.map((value) => value - max - Math.log(sum));
}
