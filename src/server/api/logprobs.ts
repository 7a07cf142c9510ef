/** Log-probabilities in the two forms that OpenAI's API has for them. */
import type { RequestOutput } from "../../runtime/request.ts";
import type { Tokenizer } from "../../runtime/tokenizer.ts";

type TokenLogprobs = NonNullable<RequestOutput["logprobs"]>;

const LEAST_LOGPROB = -9999;

/** One token's text, special ones included. */
export function tokenText(tokenizer: Tokenizer, tokenId: number): string {
  return tokenizer.decode([tokenId], { skipSpecialTokens: false });
}

interface ChatTokenLogprob {
  readonly token: string;
  readonly logprob: number;
  readonly bytes: readonly number[];
}

/** An entry of chat's `logprobs.content`. */
export function chatLogprob(
  tokenizer: Tokenizer,
  { tokenId, logprob, top }: TokenLogprobs,
): ChatTokenLogprob & { readonly top_logprobs: readonly ChatTokenLogprob[] } {
  const entry = (id: number, value: number): ChatTokenLogprob => {
    const token = tokenText(tokenizer, id);
    return { token, logprob: finite(value), bytes: [...new TextEncoder().encode(token)] };
  };
  return {
    ...entry(tokenId, logprob),
    top_logprobs: top.map(([id, value]) => entry(id, value)),
  };
}

/** completions' `logprobs`: columns, to which each token adds a row. */
export class CompletionLogprobs {
  readonly text_offset: number[] = [];
  readonly token_logprobs: (number | null)[] = [];
  readonly tokens: string[] = [];
  readonly top_logprobs: (Record<string, number> | null)[] = [];

  /** `offset`: letters of the text before this token. Returns those after it. */
  add(tokenizer: Tokenizer, entry: TokenLogprobs | number, offset: number): number {
    const isBare = typeof entry === "number"; // the prompt's first token has no probability
    const token = tokenText(tokenizer, isBare ? entry : entry.tokenId);
    this.text_offset.push(offset);
    this.tokens.push(token);
    this.token_logprobs.push(isBare ? null : finite(entry.logprob));
    this.top_logprobs.push(isBare ? null : topByText(tokenizer, entry));
    return offset + token.length;
  }
}

/** The likeliest tokens and the sampled one; of tokens with the same text the likelier. */
function topByText(
  tokenizer: Tokenizer,
  { tokenId, logprob, top }: TokenLogprobs,
): Record<string, number> {
  const all = [...top, [tokenId, logprob] as const];
  return Object.fromEntries(
    all.reverse().map(([id, value]) => [tokenText(tokenizer, id), finite(value)]),
  );
}

/** JSON has neither -Infinity nor NaN (which logits that overflowed leave); vLLM and OpenAI say -9999. */
function finite(logprob: number): number {
  return logprob >= LEAST_LOGPROB ? logprob : LEAST_LOGPROB;
}
