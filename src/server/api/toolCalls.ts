/** Finds tool calls in what a model writes, in the formats that are common, under vLLM's names. */

export interface FoundCall {
  readonly name: string;
  /** JSON. */
  readonly arguments: string;
}

/** What a completion came to; calls are empty where none could be read. */
export interface ParsedText {
  readonly content: string;
  readonly calls: readonly FoundCall[];
}

export interface ToolCallFormat {
  /** Calls are all of a completion: one that begins otherwise holds none. */
  readonly isWhole: boolean;
  /** How much of the text is certainly no part of a call, while more may come. */
  certain(text: string): number;
  parse(text: string): ParsedText;
}

const BEGIN = "<tool_call>";
const TAG = "<|python_tag|>";
const HERMES_CALL = /<tool_call>\s*(.*?)\s*(?:<\/tool_call>|$)/gs;

/** Hermes, Qwen: `<tool_call>{"name": …, "arguments": …}</tool_call>`, once or more, after the text. */
const hermes: ToolCallFormat = {
  isWhole: false,
  certain: (text) => {
    const at = text.indexOf(BEGIN);
    if (at >= 0) return at;
    let held = Math.min(BEGIN.length - 1, text.length);
    while (!BEGIN.startsWith(text.slice(text.length - held))) held -= 1;
    return text.length - held;
  },
  parse: (text) => {
    const at = text.indexOf(BEGIN);
    if (at < 0) return { content: text, calls: [] };
    const calls = [...text.matchAll(HERMES_CALL)].map(([, json = ""]) => readCall(json));
    return withCalls(text, text.slice(0, at).trimEnd(), calls);
  },
};

/** Llama 3: nothing but `{"name": …, "parameters": …}`, several after semicolons. */
const llama3Json: ToolCallFormat = {
  isWhole: true,
  certain: (text) => {
    const begin = text.trimStart();
    const mayCall = begin.startsWith("{") || begin.startsWith(TAG) || TAG.startsWith(begin);
    return mayCall ? 0 : text.length;
  },
  parse: (text) => {
    const json = text.replace(/^\s*<\|python_tag\|>/, "").trim();
    if (!json.startsWith("{")) return { content: text, calls: [] };
    return withCalls(text, "", json.split(/;\s*(?=\{)/).map(readCall));
  },
};

export const TOOL_CALL_FORMATS = { hermes, llama3_json: llama3Json } as const;
export type ToolCallParser = keyof typeof TOOL_CALL_FORMATS;

/** A text of which a part is no call stays the text that it is. */
function withCalls(
  text: string,
  content: string,
  calls: readonly (FoundCall | undefined)[],
): ParsedText {
  const found = calls.filter((call) => call !== undefined);
  if (found.length < calls.length) return { content: text, calls: [] };
  return { content, calls: found };
}

/** Undefined unless it is JSON of a name and its arguments. */
function readCall(json: string): FoundCall | undefined {
  try {
    const value = JSON.parse(json) as Record<string, unknown>;
    const { name, arguments: given, parameters } = value;
    if (typeof name !== "string") return undefined;
    return { name, arguments: JSON.stringify(given ?? parameters ?? {}) };
  } catch {
    return undefined;
  }
}

/** The calls of a completion that a grammar has made a list of them; none where it was cut off. */
export function readCallList(text: string): FoundCall[] | undefined {
  try {
    const list = JSON.parse(text) as { name: string; parameters: unknown }[];
    return list.map(({ name, parameters }) => ({ name, arguments: JSON.stringify(parameters) }));
  } catch {
    return undefined;
  }
}
