/** What the engine needs of a tokenizer. */

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
  streamDecoder(): StreamDecoder;
  /** Tokens that end a completion unless the request ignores them. */
  readonly eosTokenIds: readonly number[];
}
