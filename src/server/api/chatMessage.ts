/** One choice's message of a chat as it comes: text, or calls of tools. */
import { randomUUID } from "node:crypto";
import type { ToolChoice } from "./toolChoice.ts";
import { type FoundCall, readCallList, type ToolCallFormat } from "./toolCalls.ts";

/** A piece of a call: the first one of each call brings its id and name. */
export interface ToolCallDelta {
  readonly index: number;
  readonly id?: string;
  readonly type?: "function";
  readonly function: { readonly name?: string; readonly arguments: string };
}

export interface MessagePiece {
  readonly content: string;
  readonly toolCalls: readonly ToolCallDelta[];
}

/** Told the text piece by piece; says what of it can be sent. */
export class ChatMessageWriter {
  readonly #choice: ToolChoice;
  readonly #format: ToolCallFormat | null;
  #held = ""; // may yet be part of a call
  #numCalls = 0;
  #hasText = false; // some of it was sent

  /** `format` is how this model writes calls of its own accord; null leaves them in the text. */
  constructor(choice: ToolChoice, format: ToolCallFormat | null) {
    this.#choice = choice;
    this.#format = format;
  }

  /** The model chose to call tools, which is a reason to end of its own. */
  get hasChosenCalls(): boolean {
    return this.#numCalls > 0 && this.#choice.kind !== "named";
  }

  write(text: string, isLast: boolean): MessagePiece {
    switch (this.#choice.kind) {
      case "named":
        return { content: "", toolCalls: this.#argumentsOf(this.#choice.name, text) };
      case "required":
        return this.#list(text, isLast);
      case "auto":
        return this.#found(text, isLast);
      case "none":
        return { content: text, toolCalls: [] };
    }
  }

  /** The grammar lets nothing through but one call's arguments: they can be sent as they come. */
  #argumentsOf(name: string, text: string): ToolCallDelta[] {
    if (text === "" && this.#numCalls > 0) return [];
    if (this.#numCalls > 0) return [{ index: 0, function: { arguments: text } }];
    return this.#whole([{ name, arguments: text }]);
  }

  #list(text: string, isLast: boolean): MessagePiece {
    this.#held += text;
    if (!isLast) return { content: "", toolCalls: [] };
    const calls = readCallList(this.#held);
    if (calls !== undefined) return { content: "", toolCalls: this.#whole(calls) };
    return { content: this.#held, toolCalls: [] }; // cut off by max_tokens
  }

  #found(text: string, isLast: boolean): MessagePiece {
    const format = this.#format;
    if (format === null || (format.isWhole && this.#hasText)) {
      return { content: text, toolCalls: [] };
    }
    this.#held += text;
    if (isLast) {
      const { content, calls } = format.parse(this.#held);
      return { content, toolCalls: this.#whole(calls) };
    }
    const end = format.certain(this.#held);
    const content = this.#held.slice(0, end);
    this.#held = this.#held.slice(end);
    this.#hasText ||= end > 0;
    return { content, toolCalls: [] };
  }

  #whole(calls: readonly FoundCall[]): ToolCallDelta[] {
    return calls.map((call) => {
      const id = `call_${randomUUID().replaceAll("-", "")}`;
      return { index: this.#numCalls++, id, type: "function", function: call };
    });
  }
}
