/** What a caller asks for, checked once on arrival, and what it gets back. */
import { PromptError, UsageError } from "../common/errors.ts";
import { ceilDiv } from "../common/math.ts";
import type { ExecutorLimits } from "./executor/executor.ts";
import type { SamplingParams } from "./samplingParams.ts";
import type { TokenLogprobs } from "./stepPlan.ts";
import type { TokenMask } from "./tokenMask.ts";

/**
 * Why a completion ended: an end-of-sequence or stop token or a stop string, maxTokens, or `abort`. Null
 * while it has not.
 */
export type FinishReason = "stop" | "length" | "abort" | null;

/** The stop string or token of the request's own that ended the completion; null for any other end. */
export type StopReason = string | number | null;

/**
 * Tokens that may follow, asked for once before each token with the completion so far; null allows all.
 * A request that has it waits for each token before its next step can be planned. What it throws ends
 * that request alone.
 */
export type AllowedTokens = (completionTokenIds: readonly number[]) => TokenMask | null;

/** A prompt that is known to fit, and how to go on from it. */
export interface Request {
  readonly requestId: string;
  readonly promptTokenIds: readonly number[];
  readonly sampling: SamplingParams;
  /** sampling.maxTokens, or what the context and the KV cache leave. */
  readonly maxTokens: number;
  /** Tokens that end the completion. */
  readonly stopTokenIds: ReadonlySet<number>;
  /** Lower goes first; of equals, the first that came. */
  readonly priority: number;
  /** Wait for this request's prefill, if it is under way, and share the blocks of their common prompt. */
  readonly leaderId: string | null;
  readonly allowedTokens: AllowedTokens | null;
}

/** One more piece of a completion. */
export interface RequestOutput {
  /** Null only where a completion ends without a token: by `abort`. */
  readonly tokenId: number | null;
  /** Text that became certain with this token; a stop token adds none. */
  readonly text: string;
  readonly finishReason: FinishReason;
  readonly stopReason: StopReason;
  /** Null where none were asked for. */
  readonly logprobs: TokenLogprobs | null;
  /** With the first token, where asked for: one entry a prompt token, null for the first. */
  readonly promptLogprobs: readonly (TokenLogprobs | null)[] | null;
}

/** Tokens that a request took. */
export interface RequestUsage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Of the prompt: found in the prefix cache. */
  readonly cachedTokens: number;
}

/** Times in milliseconds of one clock (`performance.now()`), null until they have happened. */
export interface RequestTimings {
  readonly arrivalMs: number;
  /** Its first step was planned. */
  readonly scheduledMs: number | null;
  readonly firstTokenMs: number | null;
  readonly lastTokenMs: number | null;
  /** From arrival until scheduled. */
  readonly queueMs: number | null;
  /** Time to first token. */
  readonly ttftMs: number | null;
  /** Mean time of each later token; null below two tokens. */
  readonly tpotMs: number | null;
}

/** A whole completion. */
export interface Completion {
  readonly requestId: string;
  readonly promptTokenIds: readonly number[];
  /** Includes the stop token, if one ended it. */
  readonly tokenIds: readonly number[];
  readonly text: string;
  readonly finishReason: Exclude<FinishReason, null>;
  readonly stopReason: StopReason;
  /** One entry a completion token; null where none were asked for. */
  readonly logprobs: readonly TokenLogprobs[] | null;
  /** One entry a prompt token, null for the first; null where none were asked for. */
  readonly promptLogprobs: readonly (TokenLogprobs | null)[] | null;
  readonly usage: RequestUsage;
  /** As used; `seed` is the drawn one if none was given. */
  readonly sampling: SamplingParams;
  readonly timings: RequestTimings;
}

/** What `createRequest` is made from. */
export interface RequestDraft {
  readonly requestId: string;
  readonly promptTokenIds: readonly number[];
  readonly sampling: SamplingParams;
  readonly eosTokenIds: readonly number[];
  /** 0 when left out. */
  readonly priority?: number;
  readonly leaderId?: string;
  readonly allowedTokens?: AllowedTokens;
}

/** Checks a prompt against the executor's limits (PromptError) and settles maxTokens as vLLM does. */
export function createRequest(draft: RequestDraft, limits: ExecutorLimits): Request {
  const { requestId, sampling } = draft;
  const promptTokenIds = [...draft.promptTokenIds];
  checkTokenIds(promptTokenIds, limits.vocabSize);
  checkPromptLength(promptTokenIds.length, limits);
  const maxTokens = settleMaxTokens(promptTokenIds.length, sampling.maxTokens, limits);
  const eosTokenIds = sampling.ignoreEos ? [] : draft.eosTokenIds;
  const wanted = [...eosTokenIds, ...sampling.stopTokenIds];
  const stopTokenIds = new Set(wanted.filter((id) => id < limits.vocabSize));
  checkBans(sampling, stopTokenIds, limits.vocabSize);
  checkBiasedIds(sampling, limits.vocabSize);
  const { priority = 0, leaderId = null, allowedTokens = null } = draft;
  checkPriority(priority);
  const settled = { requestId, promptTokenIds, sampling, maxTokens, stopTokenIds };
  return { ...settled, priority, leaderId, allowedTokens };
}

/** Checks token ids that only run through the model (PromptError): known ids, and room in the context. */
export function checkPromptIds(
  tokenIds: readonly number[],
  { vocabSize, maxModelLen }: Pick<ExecutorLimits, "vocabSize" | "maxModelLen">,
): void {
  checkTokenIds(tokenIds, vocabSize);
  if (tokenIds.length <= maxModelLen) return;
  throw new PromptError({
    what: "prompt",
    expected: `at most ${maxModelLen} tokens (maxModelLen)`,
    got: tokenIds.length,
    remedy: "shorten the prompt or raise --max-model-len",
  });
}

// Every logit would be -Infinity until minTokens.
function checkBans(
  { minTokens }: SamplingParams,
  stopTokenIds: ReadonlySet<number>,
  vocabSize: number,
): void {
  if (minTokens === 0 || stopTokenIds.size < vocabSize) return;
  const [expected, got] = ["a token that does not stop the completion", "stop tokens only"];
  throw new UsageError({ what: "minTokens", expected, got });
}

function checkBiasedIds({ logitBias }: SamplingParams, vocabSize: number): void {
  const wild = Object.keys(logitBias).find((id) => Number(id) >= vocabSize);
  if (wild === undefined) return;
  const expected = `ids from 0 to ${vocabSize - 1} (vocabSize ${vocabSize})`;
  throw new UsageError({ what: "logitBias", expected, got: wild });
}

function checkPriority(priority: number): void {
  if (Number.isSafeInteger(priority)) return;
  throw new UsageError({ what: "priority", expected: "a whole number", got: priority });
}

function checkTokenIds(tokenIds: readonly number[], vocabSize: number): void {
  if (tokenIds.length === 0) {
    throw new PromptError({
      what: "prompt",
      expected: "at least 1 token",
      got: 0,
      remedy: "start from the beginning-of-sequence token",
    });
  }
  // Wild ids would index the embedding out of bounds on the GPU; nothing checks them after this.
  const index = tokenIds.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (index >= 0) {
    throw new PromptError({
      what: `prompt token ${index}`,
      expected: `an id from 0 to ${vocabSize - 1} (vocabSize ${vocabSize})`,
      got: String(tokenIds[index]),
    });
  }
}

function checkPromptLength(promptLength: number, limits: ExecutorLimits): void {
  const { maxModelLen } = limits;
  if (promptLength >= maxModelLen) {
    throw new PromptError({
      what: "prompt",
      expected: `at most ${maxModelLen - 1} tokens (maxModelLen ${maxModelLen}, less 1 to generate)`,
      got: promptLength,
      remedy: "shorten the prompt",
    });
  }
  if (promptLength > cacheTokens(limits)) {
    throw new PromptError({
      what: "prompt",
      expected: `at most ${describeCache(limits)}`,
      got: `${promptLength} tokens = ${blocksFor(promptLength, limits)} blocks`,
      remedy: "shorten the prompt or give the KV cache more memory",
    });
  }
}

// vLLM's engine fills the context when maxTokens is left out; its server refuses one that cannot fit.
function settleMaxTokens(
  promptLength: number,
  maxTokens: number | null,
  limits: ExecutorLimits,
): number {
  const { maxModelLen } = limits;
  // The last token is returned but never fed back, so it takes no place in the cache.
  const room = Math.min(maxModelLen, cacheTokens(limits) + 1) - promptLength;
  if (maxTokens === null) return room;
  if (promptLength + maxTokens > maxModelLen) {
    throw new PromptError({
      what: "prompt + maxTokens",
      expected: `at most ${maxModelLen} tokens (maxModelLen)`,
      got: `${promptLength} + ${maxTokens} = ${promptLength + maxTokens}`,
      remedy: `use a maxTokens of at most ${room} or a shorter prompt`,
    });
  }
  if (maxTokens > room) {
    const numTokens = promptLength + maxTokens - 1;
    throw new PromptError({
      what: "prompt + maxTokens - 1",
      expected: `at most ${describeCache(limits)}`,
      got: `${promptLength} + ${maxTokens} - 1 = ${numTokens} tokens = ${blocksFor(numTokens, limits)} blocks`,
      remedy: `use a maxTokens of at most ${room} or give the KV cache more memory`,
    });
  }
  return maxTokens;
}

function cacheTokens({ numBlocks, blockSize }: ExecutorLimits): number {
  return numBlocks * blockSize;
}

function blocksFor(numTokens: number, { blockSize }: ExecutorLimits): number {
  return ceilDiv(numTokens, blockSize);
}

function describeCache(limits: ExecutorLimits): string {
  const { numBlocks, blockSize } = limits;
  return `${cacheTokens(limits)} tokens (KV cache: ${numBlocks} blocks x ${blockSize} tokens)`;
}
