/** Outputs of Hugging Face transformers beside a checkpoint, and how far from them a layout is. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { nodeFiles } from "../../models/weights/filesNode.ts";
import { readSafetensors, toFloat32 } from "../../models/weights/safetensors.ts";
import { gatherLogits } from "../../src/runtime/logits.ts";
import type { TestModel } from "./layouts.ts";

/**
 * Largest difference of a logit, as a part of the logits' standard deviation. f32 rounding in another
 * order of summation gives up to 6e-5 here on any layout and adapter; the contract is 1e-3. In between
 * lies what a mistake of one bit of precision would cost, so that it shows.
 */
export const LOGIT_TOLERANCE = 2e-4;

/** Greedy tokens are compared whole only where no two logits came closer than this. */
const NEAR_TIE = 1e-3;

/** The dense checkpoints under test/fixtures. */
export const FIXTURES = [
  "llama-mha",
  "llama-gqa-tied",
  "llama-odd",
  "llama3-rope",
  "qwen2-bias",
  "qwen3-qknorm",
  "mistral-swa",
] as const;

export interface Golden {
  readonly promptIds: readonly number[];
  readonly greedyIds: readonly number[];
  readonly logits: Float32Array; // [numRows, vocab], of the first numRows tokens of prompt + greedy
  readonly numRows: number;
  readonly name: string;
}

interface StoredGolden {
  readonly prompt_ids: readonly number[];
  readonly greedy_ids: readonly number[];
  readonly min_top1_top2_gap: number;
}

/** A fixture's folder. */
export function fixtureDir(name: string): string {
  return new URL(`../fixtures/${name}`, import.meta.url).pathname;
}

/** The goldens of a model directory, in order. */
export async function loadGoldens(dir: string): Promise<Golden[]> {
  const stored = JSON.parse(readFileSync(join(dir, "golden.json"), "utf8")) as Record<
    string,
    StoredGolden
  >;
  const tensors = await readSafetensors(nodeFiles, join(dir, "golden.safetensors"));
  const prompts = Object.entries(stored).filter(([name]) => !name.startsWith("_"));
  return prompts.map(([name, golden], index) => {
    const tensor = tensors.get(`logits.${index}`);
    if (tensor === undefined) throw new Error(`${dir}: no logits.${index}`);
    if (golden.min_top1_top2_gap <= NEAR_TIE) {
      throw new Error(`${dir}: prompt ${name} has a near-tie: rounding may flip a token`);
    }
    return {
      name,
      promptIds: golden.prompt_ids,
      greedyIds: golden.greedy_ids,
      logits: toFloat32(`logits.${index}`, tensor),
      numRows: tensor.shape[0] ?? 0,
    };
  });
}

/** The largest error of any prompt's logits, as a part of their standard deviation. */
export async function logitError(model: TestModel, goldens: readonly Golden[]): Promise<number> {
  let worst = 0;
  for (const { promptIds, greedyIds, numRows, logits } of goldens) {
    const tokenIds = [...promptIds, ...greedyIds].slice(0, numRows);
    const got = await gatherLogits(model.executor, tokenIds, model.resolved.run);
    worst = Math.max(worst, maxErrorInDeviations(got, logits));
  }
  return worst;
}

/** Completes all prompts as one batch and expects the golden tokens. */
export async function expectGreedy(model: TestModel, goldens: readonly Golden[]): Promise<void> {
  const length = Math.max(...goldens.map(({ greedyIds }) => greedyIds.length));
  const prompts = goldens.map(({ promptIds }) => promptIds);
  const options = { temperature: 0, maxTokens: length, ignoreEos: true };
  const completions = await model.llm.generateAll(prompts, options);
  for (const [index, { name, greedyIds }] of goldens.entries()) {
    expect(completions[index]?.tokenIds, `greedy tokens of prompt ${name}`).toEqual(greedyIds);
  }
}

/** max |got - want| over the standard deviation of want; Infinity where a value is not a number. */
export function maxErrorInDeviations(got: Float32Array, want: Float32Array): number {
  expect(got.length).toBe(want.length);
  let [sum, sumOfSquares, worst] = [0, 0, 0];
  for (const [i, value] of want.entries()) {
    sum += value;
    sumOfSquares += value * value;
    const error = Math.abs((got[i] ?? Number.NaN) - value);
    if (!(error <= worst)) worst = Number.isNaN(error) ? Infinity : error;
  }
  const mean = sum / want.length;
  return worst / Math.sqrt(sumOfSquares / want.length - mean * mean);
}
