/** What the engine needs of a tokenizer. */
import { PromptError } from "../common/errors.ts";

/** Turns one completion's token ids into text, token by token. */
export interface StreamDecoder {
  /** Adds a token; returns the text that is now certain, which may be "" inside a multi-byte character. */
  push(tokenId: number): string;
  /** No token follows; returns what was held back. */
  end(): string;
}

/** A tokenizer, as far as the engine knows it. */
export interface TextCodec {
  encode(text: string): number[];
  /** `context`: the prompt's ids, which decide whether the completion's first token has a leading space. */
  streamDecoder(options?: { readonly context?: readonly number[] }): StreamDecoder;
  /** Tokens that end a completion unless the request ignores them. */
  readonly eosTokenIds: readonly number[];
}

/** For models without a tokenizer, such as built-in shapes: token ids in, token ids out, no text. */
export function noTextCodec(eosTokenIds: readonly number[]): TextCodec {
  return {
    eosTokenIds,
    encode: (text) => {
      throw new PromptError({
        what: "prompt",
        expected: "token ids, as the model has no tokenizer",
        got: JSON.stringify(text.slice(0, 40)),
        remedy: "give the prompt as --prompt-ids 1,2,3",
      });
    },
    streamDecoder: () => ({ push: () => "", end: () => "" }),
  };
}
