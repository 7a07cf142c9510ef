/** The model's own Jinja template, which turns messages and tools into one prompt. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Template } from "@huggingface/jinja";
import { ConfigError, messageOf } from "../../common/errors.ts";
import { badRequest } from "../http/apiError.ts";
import type { ChatMessage } from "./chatSchema.ts";

/** What a template reads besides the messages. */
export interface TemplateInputs {
  readonly tools?: readonly unknown[] | undefined;
  readonly addGenerationPrompt: boolean;
  readonly kwargs?: Readonly<Record<string, unknown>> | undefined;
}

export class ChatTemplate {
  readonly #template: Template;
  readonly #special: Readonly<Record<string, string>>;

  /** `special` are tokens by the names that templates use, as bos_token. */
  constructor(source: string, special: Readonly<Record<string, string>>, name: string) {
    try {
      this.#template = new Template(source);
    } catch (error) {
      const [expected, got] = ["a Jinja template", messageOf(error)];
      throw new ConfigError({ what: name, expected, got });
    }
    this.#special = special;
  }

  /** The prompt, special tokens as text. A template's own complaint becomes a 400. */
  render(messages: readonly ChatMessage[], inputs: TemplateInputs): string {
    const { tools, addGenerationPrompt, kwargs } = inputs;
    try {
      return this.#template.render({
        ...this.#special,
        ...kwargs,
        messages: messages.map(forTemplate),
        ...(tools === undefined || tools.length === 0 ? {} : { tools }),
        add_generation_prompt: addGenerationPrompt,
      });
    } catch (error) {
      throw badRequest(`The chat template refused: ${messageOf(error)}`, "messages");
    }
  }
}

/** Parts become one text, and a tool call's arguments an object: templates expect both so. */
function forTemplate({ content, tool_calls: calls, ...rest }: ChatMessage): object {
  const text = Array.isArray(content) ? content.map((part) => part.text).join("\n") : content;
  const parsed = calls?.map((call) => ({
    ...call,
    function: { ...call.function, arguments: parseArguments(call.function.arguments) },
  }));
  return { ...rest, content: text ?? "", ...(parsed === undefined ? {} : { tool_calls: parsed }) };
}

function parseArguments(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/**
 * The template of a model directory: chat_template.jinja, else `chat_template` of tokenizer_config.json;
 * `overridePath` wins over both. Null where there is none.
 */
export async function loadChatTemplate(
  dir: string,
  overridePath?: string,
): Promise<ChatTemplate | null> {
  const config = await readOptional(join(dir, "tokenizer_config.json"));
  const fields = (config === null ? {} : JSON.parse(config)) as Record<string, unknown>;
  const special = specialTokens(fields);
  if (overridePath !== undefined) {
    const source = await readOptional(overridePath);
    if (source !== null) return new ChatTemplate(source, special, overridePath);
    const [what, expected] = ["--chat-template", "a readable file"];
    throw new ConfigError({ what, expected, got: overridePath });
  }
  const path = join(dir, "chat_template.jinja");
  const file = await readOptional(path);
  if (file !== null) return new ChatTemplate(file, special, path);
  const inConfig = defaultTemplate(fields["chat_template"]);
  return inConfig === null ? null : new ChatTemplate(inConfig, special, "chat_template");
}

async function readOptional(path: string): Promise<string | null> {
  return await readFile(path, "utf8").catch(() => null);
}

/** One template, or a list of named ones, of which `default` counts. */
function defaultTemplate(field: unknown): string | null {
  if (typeof field === "string") return field;
  if (!Array.isArray(field)) return null;
  const named = field as readonly { readonly name?: unknown; readonly template?: unknown }[];
  const template = named.find(({ name }) => name === "default")?.template;
  return typeof template === "string" ? template : null;
}

function specialTokens(fields: Record<string, unknown>): Record<string, string> {
  const named = Object.entries(fields).filter(([name]) => /^\w+_token$/.test(name));
  return Object.fromEntries(
    named.flatMap(([name, token]) => {
      const text =
        typeof token === "string" ? token : (Object(token) as { content?: unknown }).content;
      return typeof text === "string" ? [[name, text]] : [];
    }),
  );
}
