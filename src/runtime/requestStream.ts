/** One request's outputs as they come, for one reader. */
import type {
  Completion,
  FinishReason,
  Request,
  RequestOutput,
  RequestTimings,
} from "./request.ts";
import type { StreamDecoder } from "./textCodec.ts";

/** What a stream needs from its engine. */
export interface RequestStreamHost {
  readonly now: () => number;
  /** The reader left early. */
  readonly abandon: () => void;
}

/**
 * Read it once, with `for await` or `collect()`. Leaving the loop early aborts the request; a failure of
 * the engine is thrown to the reader, after the outputs that came before it.
 */
export class RequestStream implements AsyncIterable<RequestOutput> {
  readonly request: Request;
  readonly #host: RequestStreamHost;
  readonly #decoder: StreamDecoder;
  readonly #outputs: RequestOutput[] = [];
  readonly #arrivalMs: number;
  #firstTokenMs: number | null = null;
  #lastTokenMs: number | null = null;
  #numTokens = 0;
  #finishReason: FinishReason = null;
  #failure: Error | null = null;
  #wake: (() => void) | null = null;

  constructor(request: Request, decoder: StreamDecoder, host: RequestStreamHost) {
    this.request = request;
    this.#decoder = decoder;
    this.#host = host;
    this.#arrivalMs = host.now();
  }

  get requestId(): string {
    return this.request.requestId;
  }

  get finishReason(): FinishReason {
    return this.#finishReason;
  }

  /** Times so far; complete once the stream ended. */
  get timings(): RequestTimings {
    const [arrivalMs, firstTokenMs, lastTokenMs] = [
      this.#arrivalMs,
      this.#firstTokenMs,
      this.#lastTokenMs,
    ];
    const ttftMs = firstTokenMs === null ? null : firstTokenMs - arrivalMs;
    const hasSpan = firstTokenMs !== null && lastTokenMs !== null && this.#numTokens > 1;
    const tpotMs = hasSpan ? (lastTokenMs - firstTokenMs) / (this.#numTokens - 1) : null;
    return { arrivalMs, firstTokenMs, lastTokenMs, ttftMs, tpotMs };
  }

  /** The engine's side: one more token. */
  push(tokenId: number, finishReason: FinishReason): void {
    const nowMs = this.#host.now();
    this.#firstTokenMs ??= nowMs;
    this.#lastTokenMs = nowMs;
    this.#numTokens += 1;
    // A stop token ends the text and is no part of it.
    let text = finishReason === "stop" ? "" : this.#decoder.push(tokenId);
    if (finishReason !== null) text += this.#decoder.end();
    this.#emit({ tokenId, text, finishReason });
  }

  /** The engine's side: the request was aborted. */
  abort(): void {
    this.#emit({ tokenId: null, text: this.#decoder.end(), finishReason: "abort" });
  }

  /** The engine's side: no more will come. */
  fail(cause: Error): void {
    this.#failure = cause;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<RequestOutput, void, undefined> {
    let isDone = false;
    try {
      while (!isDone) {
        const output = await this.#next();
        isDone = output.finishReason !== null;
        yield output;
      }
    } finally {
      if (this.#finishReason === null && this.#failure === null) this.#host.abandon();
    }
  }

  /** Reads to the end. */
  async collect(): Promise<Completion> {
    const tokenIds: number[] = [];
    let text = "";
    for await (const output of this) {
      if (output.tokenId !== null) tokenIds.push(output.tokenId);
      text += output.text;
    }
    const { requestId, promptTokenIds, sampling } = this.request;
    const finishReason = this.#finishReason ?? "abort";
    const { timings } = this;
    return { requestId, promptTokenIds, tokenIds, text, finishReason, sampling, timings };
  }

  #emit(output: RequestOutput): void {
    this.#finishReason = output.finishReason;
    this.#outputs.push(output);
    this.#wake?.();
  }

  async #next(): Promise<RequestOutput> {
    for (;;) {
      const output = this.#outputs.shift();
      if (output !== undefined) return output;
      if (this.#failure !== null) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
