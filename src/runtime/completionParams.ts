/** When a completion ends, which tokens it may hold and what is reported of them: the part of sampling that is not the draw. */
import { UsageError } from "../common/errors.ts";

/** vLLM's names, ranges and meanings. */
export interface CompletionParams {
  /** The most tokens to generate; null means as many as the context holds. */
  readonly maxTokens: number | null;
  /** End-of-sequence and stop tokens cannot be sampled, nor stop strings end the text, before so many. */
  readonly minTokens: number;
  /** Generate on when an end-of-sequence token is sampled. */
  readonly ignoreEos: boolean;
  /** Tokens that end the completion besides the tokenizer's own, even with ignoreEos. */
  readonly stopTokenIds: readonly number[];
  /** Strings that end the completion; the text is cut before them. */
  readonly stop: readonly string[];
  /** Cut the text after a stop string instead. */
  readonly includeStopStrInOutput: boolean;
  /** Report the log-probability of each token, and of so many likeliest; null reports none. */
  readonly logprobs: number | null;
  /** The same for the prompt's tokens, but for the first; such a request makes no use of cached prefixes. */
  readonly promptLogprobs: number | null;
  /** By token id: added to its logit. */
  readonly logitBias: Readonly<Record<number, number>>;
}

/** What a caller gives; what is left out takes its default. */
export type CompletionOptions = {
  readonly [K in keyof CompletionParams]?: CompletionParams[K] | undefined;
};

/** Likeliest tokens of which log-probabilities can be asked for. */
export const maxLogprobs = 20;
/** Tokens that one request may bias: they travel with each of its steps. */
export const maxLogitBiases = 1024;
/** A bias of this size is as good as a ban or a command. */
const maxBias = 100;

/** Fills in defaults and checks every range (UsageError). */
export function resolveCompletionParams(options: CompletionOptions): CompletionParams {
  const params: CompletionParams = {
    maxTokens: options.maxTokens ?? null,
    minTokens: options.minTokens ?? 0,
    ignoreEos: options.ignoreEos ?? false,
    stopTokenIds: [...(options.stopTokenIds ?? [])],
    stop: [...(options.stop ?? [])],
    includeStopStrInOutput: options.includeStopStrInOutput ?? false,
    logprobs: options.logprobs ?? null,
    promptLogprobs: options.promptLogprobs ?? null,
    logitBias: { ...options.logitBias },
  };
  checkLengths(params);
  checkStops(params);
  checkNumLogprobs("logprobs", params.logprobs);
  checkNumLogprobs("promptLogprobs", params.promptLogprobs);
  checkLogitBias(Object.entries(params.logitBias));
  return params;
}

function checkLengths({ maxTokens, minTokens }: CompletionParams): void {
  if (maxTokens !== null && !(Number.isSafeInteger(maxTokens) && maxTokens >= 1)) {
    throw new UsageError({
      what: "maxTokens",
      expected: "a whole number of at least 1",
      got: maxTokens,
      remedy: "leave it out to generate as many as fit",
    });
  }
  const limit = maxTokens ?? Number.MAX_SAFE_INTEGER;
  if (!(Number.isSafeInteger(minTokens) && minTokens >= 0 && minTokens <= limit)) {
    const expected = `a whole number from 0 to maxTokens${maxTokens === null ? "" : ` (${maxTokens})`}`;
    throw new UsageError({ what: "minTokens", expected, got: minTokens });
  }
}

function checkStops({ stopTokenIds, stop }: CompletionParams): void {
  const wrong = stopTokenIds.find((tokenId) => !Number.isSafeInteger(tokenId) || tokenId < 0);
  if (wrong !== undefined) {
    throw new UsageError({ what: "stopTokenIds", expected: "token ids of at least 0", got: wrong });
  }
  if (!stop.includes("")) return;
  const remedy = "leave it out for no stop string";
  throw new UsageError({
    what: "stop",
    expected: "strings of at least 1 letter",
    got: '""',
    remedy,
  });
}

function checkNumLogprobs(what: string, value: number | null): void {
  if (value === null || (Number.isInteger(value) && value >= 0 && value <= maxLogprobs)) return;
  const expected = `a whole number from 0 to ${maxLogprobs}`;
  throw new UsageError({ what, expected, got: value });
}

function checkLogitBias(entries: readonly (readonly [string, number])[]): void {
  const what = "logitBias";
  if (entries.length > maxLogitBiases) {
    const expected = `at most ${maxLogitBiases} tokens`;
    throw new UsageError({ what, expected, got: entries.length });
  }
  for (const [id, bias] of entries) {
    if (!/^\d+$/.test(id) || !Number.isSafeInteger(Number(id))) {
      throw new UsageError({ what, expected: "token ids of at least 0", got: id });
    }
    if (!(Math.abs(bias) <= maxBias)) {
      const expected = `a bias from -${maxBias} to ${maxBias}`;
      throw new UsageError({ what: `${what} of token ${id}`, expected, got: bias });
    }
  }
}
