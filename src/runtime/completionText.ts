/** A completion's text as it becomes certain: tokens decoded, stop strings found and cut. */
import type { CompletionParams } from "./completionParams.ts";
import { type StopSearch, StopStringMatcher } from "./stopStrings.ts";
import type { StreamDecoder } from "./textCodec.ts";

export class CompletionText {
  readonly #decoder: StreamDecoder;
  readonly #matcher: StopStringMatcher;
  readonly #minTokens: number;
  #echo: string; // goes before the first text, unsearched
  #numTokens = 0;

  constructor(
    decoder: StreamDecoder,
    { stop, includeStopStrInOutput, minTokens }: CompletionParams,
    echo = "",
  ) {
    this.#decoder = decoder;
    this.#matcher = new StopStringMatcher(stop, includeStopStrInOutput);
    this.#minTokens = minTokens;
    this.#echo = echo;
  }

  /** One more token; the last one brings all that was held back, unless a stop string ends the text. */
  push(tokenId: number, isLast: boolean): StopSearch {
    this.#numTokens += 1;
    return this.#search(this.#decoder.push(tokenId), isLast);
  }

  /** No token follows; returns what was held back. */
  end(): StopSearch {
    return this.#search("", true);
  }

  #search(piece: string, isLast: boolean): StopSearch {
    const mayStop = this.#numTokens > this.#minTokens;
    const found = this.#matcher.push(isLast ? piece + this.#decoder.end() : piece, mayStop);
    const tail = isLast && found.stopString === null ? this.#matcher.end() : "";
    const text = this.#echo + found.text + tail;
    this.#echo = "";
    return { text, stopString: found.stopString };
  }
}
