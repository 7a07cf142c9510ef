/** How a request picks its tokens and when it stops: vLLM's names, ranges and meanings. */
import { UsageError } from "../common/errors.ts";
import { type CompletionParams, resolveCompletionParams } from "./completionParams.ts";

/** Everything a request says about sampling, resolved: no field is missing. */
export interface SamplingParams extends CompletionParams {
  /** 0 is greedy; else logits are divided by it. */
  readonly temperature: number;
  /** Keep the k likeliest tokens; 0 keeps all. */
  readonly topK: number;
  /** Keep the smallest set of likeliest tokens with at least this probability; 1 keeps all. */
  readonly topP: number;
  /** Keep tokens at least this fraction as likely as the likeliest; 0 keeps all. */
  readonly minP: number;
  /** Divides positive and multiplies negative logits of tokens in prompt or completion; 1 is off. */
  readonly repetitionPenalty: number;
  /** Subtracted from the logits of tokens that the completion contains; 0 is off. */
  readonly presencePenalty: number;
  /** Subtracted once per occurrence in the completion; 0 is off. */
  readonly frequencyPenalty: number;
  /** An unsigned 32-bit number; with a token's position it keys that token's draw. */
  readonly seed: number;
}

/** What a caller gives; what is left out takes its default. */
export type SamplingOptions = {
  readonly [K in keyof SamplingParams]?: SamplingParams[K] | undefined;
};

/** The part of SamplingParams that the GPU reads. */
export type GpuSamplingParams = Pick<
  SamplingParams,
  | "temperature"
  | "topK"
  | "topP"
  | "minP"
  | "repetitionPenalty"
  | "presencePenalty"
  | "frequencyPenalty"
  | "seed"
>;

/** Candidates that each shard gathers; a row that may need more is "wide". */
export const maxNarrowCandidates = 64;

const maxSeed = 2 ** 32 - 1;
// Below this vLLM samples greedily too: dividing by less only makes infinities of the same argmax.
const greedyTemperature = 1e-5;

interface Rule {
  readonly expected: string;
  readonly holds: (value: number) => boolean;
}

const penalty: Rule = { expected: "-2 to 2", holds: (value) => value >= -2 && value <= 2 };
const rules: Readonly<Record<keyof GpuSamplingParams, Rule>> = {
  temperature: {
    expected: "a finite number of at least 0",
    holds: (value) => value >= 0 && Number.isFinite(value),
  },
  topK: {
    expected: "a whole number of at least 1, or 0 or -1 to keep all tokens",
    holds: (value) => Number.isSafeInteger(value) && value >= -1,
  },
  topP: { expected: "above 0, at most 1", holds: (value) => value > 0 && value <= 1 },
  minP: { expected: "0 to 1", holds: (value) => value >= 0 && value <= 1 },
  repetitionPenalty: {
    expected: "a finite number above 0",
    holds: (value) => value > 0 && Number.isFinite(value),
  },
  presencePenalty: penalty,
  frequencyPenalty: penalty,
  seed: {
    expected: `a whole number from 0 to ${maxSeed}, or -1 for a random one`,
    holds: (value) => Number.isInteger(value) && value >= 0 && value <= maxSeed,
  },
};
const remedies: Partial<Record<keyof GpuSamplingParams, string>> = {
  temperature: "use 0 for greedy sampling",
  topP: "use 1 to keep all tokens",
  minP: "use 0 to keep all tokens",
  repetitionPenalty: "use 1 for no penalty",
  presencePenalty: "use 0 for no penalty",
  frequencyPenalty: "use 0 for no penalty",
};

/** Fills in defaults, checks every range (UsageError) and draws a seed where none is given. */
export function resolveSamplingParams(options: SamplingOptions = {}): SamplingParams {
  const params: SamplingParams = {
    temperature: options.temperature ?? 1,
    topK: options.topK === -1 ? 0 : (options.topK ?? 0),
    topP: options.topP ?? 1,
    minP: options.minP ?? 0,
    repetitionPenalty: options.repetitionPenalty ?? 1,
    presencePenalty: options.presencePenalty ?? 0,
    frequencyPenalty: options.frequencyPenalty ?? 0,
    seed: options.seed === undefined || options.seed === -1 ? randomSeed() : options.seed,
    ...resolveCompletionParams(options),
  };
  for (const field of Object.keys(rules) as (keyof GpuSamplingParams)[]) checkField(params, field);
  return params;
}

function checkField(params: SamplingParams, field: keyof GpuSamplingParams): void {
  if (rules[field].holds(params[field])) return;
  const remedy = remedies[field];
  throw new UsageError({
    what: field,
    expected: rules[field].expected,
    got: params[field],
    ...(remedy === undefined ? {} : { remedy }),
  });
}

function randomSeed(): number {
  return Math.floor(Math.random() * 2 ** 32);
}

/**
 * Choice `index` of a request for several completions: the same but for its seed, (seed + index) mod 2^32
 * as in vLLM, so that any choice can be had again alone. Each draw hashes seed and position, so
 * neighbouring seeds are as good as far ones.
 */
export function forkSamplingParams(params: SamplingParams, index: number): SamplingParams {
  return { ...params, seed: (params.seed + index) % (maxSeed + 1) };
}

/** The part that a StepPlan carries. */
export function gpuSamplingParams(params: SamplingParams): GpuSamplingParams {
  const { temperature, topK, topP, minP, seed } = params;
  const { repetitionPenalty, presencePenalty, frequencyPenalty } = params;
  return {
    temperature,
    topK,
    topP,
    minP,
    repetitionPenalty,
    presencePenalty,
    frequencyPenalty,
    seed,
  };
}

/** Takes the likeliest token: no draw, and no filter can change it. */
export function isGreedy({ temperature }: GpuSamplingParams): boolean {
  return temperature < greedyTemperature;
}

/** A top-k, top-p or min-p filter changes which tokens can be drawn. */
export function needsFilter(params: GpuSamplingParams): boolean {
  return !isGreedy(params) && (params.topK > 0 || params.topP < 1 || params.minP > 0);
}

/** Logits depend on the tokens so far; holds for greedy sampling too. */
export function needsPenalties(params: GpuSamplingParams): boolean {
  const { repetitionPenalty, presencePenalty, frequencyPenalty } = params;
  return repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0;
}

/** More than `maxNarrowCandidates` tokens may pass the filters, so whole logits may be gathered. */
export function mayNeedWide(params: GpuSamplingParams): boolean {
  if (!needsFilter(params)) return false;
  return params.topK === 0 || params.topK > maxNarrowCandidates;
}
