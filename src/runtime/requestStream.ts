/** One request's outputs as they come, for one reader. */
import { CompletionText } from "./completionText.ts";
import type {
  Completion,
  FinishReason,
  Request,
  RequestOutput,
  RequestTimings,
  RequestUsage,
  StopReason,
} from "./request.ts";
import { RequestClock } from "./requestClock.ts";
import type { SampledToken } from "./schedulerReports.ts";
import type { TokenLogprobs } from "./stepPlan.ts";
import type { StreamDecoder } from "./textCodec.ts";

/** What a stream needs from its engine. */
export interface RequestStreamHost {
  readonly now: () => number;
  /** The reader left early. */
  readonly abandon: () => void;
  /** Text that goes before the completion's. */
  readonly echo?: string;
}

/**
 * Read it once, with `for await` or `collect()`. Leaving the loop early aborts the request; a failure of
 * the engine is thrown to the reader, after the outputs that came before it.
 */
export class RequestStream implements AsyncIterable<RequestOutput> {
  readonly request: Request;
  readonly #host: RequestStreamHost;
  readonly #text: CompletionText;
  readonly #clock: RequestClock;
  readonly #outputs: RequestOutput[] = [];
  #numTokens = 0;
  #numCachedTokens = 0;
  #finishReason: FinishReason = null;
  #stopReason: StopReason = null;
  #failure: Error | null = null;
  #wake: (() => void) | null = null;

  constructor(request: Request, decoder: StreamDecoder, host: RequestStreamHost) {
    this.request = request;
    this.#text = new CompletionText(decoder, request.sampling, host.echo);
    this.#host = host;
    this.#clock = new RequestClock(host.now);
  }

  get requestId(): string {
    return this.request.requestId;
  }

  get finishReason(): FinishReason {
    return this.#finishReason;
  }

  get stopReason(): StopReason {
    return this.#stopReason;
  }

  /** Times so far; complete once the stream ended. */
  get timings(): RequestTimings {
    return this.#clock.timings;
  }

  /** Tokens so far; complete once the stream ended. */
  get usage(): RequestUsage {
    return {
      promptTokens: this.request.promptTokenIds.length,
      completionTokens: this.#numTokens,
      cachedTokens: this.#numCachedTokens,
    };
  }

  /** The engine's side: the first step is planned. */
  admitted(numCachedTokens: number): void {
    this.#numCachedTokens = numCachedTokens;
    this.#clock.scheduled();
  }

  /** The engine's side: one more token. Returns the milliseconds since the one before, or the arrival. */
  push(token: SampledToken): number {
    const elapsedMs = this.#clock.token();
    const { tokenId, logprobs, promptLogprobs } = token;
    this.#numTokens += 1;
    const isLast = token.finishReason !== null;
    // A stop token ends the text and is no part of it.
    const isHidden = token.finishReason === "stop" && !this.request.sampling.includeStopStrInOutput;
    const found = isHidden ? this.#text.end() : this.#text.push(tokenId, isLast);
    const { text, stopString } = found;
    const finishReason = stopString === null ? token.finishReason : "stop";
    const stopReason = stopString ?? token.stopReason;
    this.#emit({ tokenId, text, finishReason, stopReason, logprobs, promptLogprobs });
    return elapsedMs;
  }

  /** The engine's side: the request was aborted. */
  abort(): void {
    const { text } = this.#text.end();
    const nothing = { tokenId: null, stopReason: null, logprobs: null, promptLogprobs: null };
    this.#emit({ ...nothing, text, finishReason: "abort" });
  }

  /** The engine's side: no more will come. */
  fail(cause: Error): void {
    this.#failure = cause;
    this.#wake?.();
  }

  /** Pieces as they come; leaving the loop early abandons the request. */
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
    const logprobs: TokenLogprobs[] = [];
    let promptLogprobs: Completion["promptLogprobs"] = null;
    let text = "";
    for await (const output of this) {
      if (output.tokenId !== null) tokenIds.push(output.tokenId);
      if (output.logprobs !== null) logprobs.push(output.logprobs);
      promptLogprobs ??= output.promptLogprobs;
      text += output.text;
    }
    const { requestId, promptTokenIds, sampling } = this.request;
    return {
      requestId,
      promptTokenIds,
      tokenIds,
      text,
      finishReason: this.#finishReason ?? "abort",
      stopReason: this.#stopReason,
      logprobs: sampling.logprobs === null ? null : logprobs,
      promptLogprobs,
      usage: this.usage,
      sampling,
      timings: this.timings,
    };
  }

  #emit(output: RequestOutput): void {
    this.#finishReason = output.finishReason;
    this.#stopReason = output.stopReason;
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
