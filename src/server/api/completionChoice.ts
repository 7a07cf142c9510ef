/** One choice of /v1/completions as it is written: text, log-probabilities, and why it ended. */
import type { RequestOutput } from "../../runtime/request.ts";
import type { Tokenizer } from "../../runtime/tokenizer.ts";
import { finishReasonOf } from "./generation.ts";
import { CompletionLogprobs } from "./logprobs.ts";

export interface CompletionChoice {
  readonly index: number;
  readonly text: string;
  readonly logprobs: CompletionLogprobs | null;
  readonly finish_reason: "stop" | "length" | null;
  readonly stop_reason: string | number | null;
}

export interface ChoiceFormat {
  readonly index: number;
  /** Goes before the completion; null where the request does not echo. */
  readonly echo: string | null;
  readonly promptTokenIds: readonly number[];
  /** Null reports no log-probabilities. */
  readonly logprobsBy: Tokenizer | null;
  /** The request asked for 0 tokens: one was generated only to get at the prompt's log-probabilities. */
  readonly isPromptOnly: boolean;
}

/** Keeps the place in the text from one piece to the next. */
export class CompletionChoiceWriter {
  readonly #format: ChoiceFormat;
  #offset = 0;
  #isFirst = true;

  constructor(format: ChoiceFormat) {
    this.#format = format;
  }

  /** The next outputs as one piece; its text may be "", as long as a character or stop string is not whole. */
  write(outputs: readonly RequestOutput[]): CompletionChoice {
    const { index, echo, logprobsBy, isPromptOnly } = this.#format;
    const last = outputs.at(-1);
    const own = isPromptOnly ? "" : outputs.map(({ text }) => text).join("");
    const text = (this.#isFirst ? (echo ?? "") : "") + own;
    const logprobs = logprobsBy === null ? null : this.#logprobs(outputs, logprobsBy);
    const finishReason = finishReasonOf(last?.finishReason ?? null);
    this.#isFirst = false;
    const stopReason = last?.stopReason ?? null;
    return { index, text, logprobs, finish_reason: finishReason, stop_reason: stopReason };
  }

  #logprobs(outputs: readonly RequestOutput[], tokenizer: Tokenizer): CompletionLogprobs {
    const columns = new CompletionLogprobs();
    const { promptTokenIds, isPromptOnly } = this.#format;
    for (const { promptLogprobs, logprobs } of outputs) {
      for (const [at, entry] of (promptLogprobs ?? []).entries()) {
        const row = entry ?? promptTokenIds[at] ?? 0;
        this.#offset = columns.add(tokenizer, row, this.#offset);
      }
      if (logprobs === null || isPromptOnly) continue;
      this.#offset = columns.add(tokenizer, logprobs, this.#offset);
    }
    return columns;
  }
}
