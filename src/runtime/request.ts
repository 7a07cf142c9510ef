/** What a caller asks for, checked once on arrival, and what it gets back. */
import { PromptError } from "../common/errors.ts";
import { ceilDiv } from "../common/math.ts";
import type { ExecutorLimits } from "./executor/executor.ts";
import type { SamplingParams } from "./samplingParams.ts";

/**
 * Why a completion ended: an end-of-sequence or stop token, maxTokens, or `abort`. Null while it has not.
 */
export type FinishReason = "stop" | "length" | "abort" | null;

/** A prompt that is known to fit, and how to go on from it. */
export interface Request {
  readonly requestId: string;
  readonly promptTokenIds: readonly number[];
  readonly sampling: SamplingParams;
  /** sampling.maxTokens, or what the context and the KV cache leave. */
  readonly maxTokens: number;
  /** Tokens that end the completion. */
  readonly stopTokenIds: ReadonlySet<number>;
}

/** One more piece of a completion. */
export interface RequestOutput {
  /** Null only where a completion ends without a token: by `abort`. */
  readonly tokenId: number | null;
  /** Text that became certain with this token; a stop token adds none. */
  readonly text: string;
  readonly finishReason: FinishReason;
}

/** Times in milliseconds of one clock (`performance.now()`), null until they have happened. */
export interface RequestTimings {
  readonly arrivalMs: number;
  readonly firstTokenMs: number | null;
  readonly lastTokenMs: number | null;
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
}

/** Checks a prompt against the executor's limits (PromptError) and settles maxTokens as vLLM does. */
export function createRequest(draft: RequestDraft, limits: ExecutorLimits): Request {
  const { requestId, sampling } = draft;
  const promptTokenIds = [...draft.promptTokenIds];
  checkTokenIds(promptTokenIds, limits.vocabSize);
  checkPromptLength(promptTokenIds.length, limits);
  const maxTokens = settleMaxTokens(promptTokenIds.length, sampling.maxTokens, limits);
  const eosTokenIds = sampling.ignoreEos ? [] : draft.eosTokenIds;
  const stopTokenIds = new Set([...eosTokenIds, ...sampling.stopTokenIds]);
  return { requestId, promptTokenIds, sampling, maxTokens, stopTokenIds };
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
