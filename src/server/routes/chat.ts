/** POST /v1/chat/completions */
import type { Context } from "hono";
import type { RequestOutput } from "../../runtime/request.ts";
import type { Tokenizer } from "../../runtime/tokenizer.ts";
import { type ChatBody, chatBody } from "../api/chatSchema.ts";
import type { ChatTemplate } from "../api/chatTemplate.ts";
import {
  collectChoices,
  finishReasonOf,
  type Generation,
  startGeneration,
} from "../api/generation.ts";
import { ChatMessageWriter, type MessagePiece } from "../api/chatMessage.ts";
import { chatLogprob } from "../api/logprobs.ts";
import { checkContext, notSupportedYet, refuseUnsupported } from "../api/sampling.ts";
import { TOOL_CALL_FORMATS } from "../api/toolCalls.ts";
import { readToolChoice, type ToolChoice } from "../api/toolChoice.ts";
import { logFailure, type ServerContext, servedModel, tokenizerOf } from "../context.ts";
import { badRequest } from "../http/apiError.ts";
import { readJsonBody } from "../http/jsonBody.ts";
import { sseResponse } from "../http/sse.ts";
import { answerHead, type AnswerHead } from "./answerHead.ts";

/** The handler. */
export async function chatCompletions(server: ServerContext, { req }: Context): Promise<Response> {
  const body = await readJsonBody(req.raw, chatBody, server.options.maxRequestBytes);
  const model = servedModel(server, body.model);
  checkFields(body);
  const choice = readToolChoice(body);
  const prompt = renderChat(server, body);
  const maxTokens = body.max_completion_tokens ?? body.max_tokens ?? undefined;
  if (maxTokens === 0) throw badRequest("max_tokens: expected at least 1.", "max_tokens");
  checkContext(prompt.length, maxTokens, server.replicas.model.executor.limits, "messages");
  const n = body.n ?? 1;
  const logprobs = body.logprobs === true ? (body.top_logprobs ?? 0) : undefined;
  const format = "format" in choice ? choice.format : body.response_format;
  const spec = { prompts: [prompt], n, fields: body, format, maxTokens, logprobs };
  const generation = await startGeneration(server, spec, req.raw.signal);
  const writers = messageWriters(server, choice, n);
  const reading = { generation, writers, tokenizer: tokenizerOf(server) };
  if (body.stream !== true) {
    return Response.json(
      await wholeAnswer(reading, answerHead("chatcmpl", "chat.completion", model)),
    );
  }
  const head = answerHead("chatcmpl", "chat.completion.chunk", model);
  return sseResponse(streamAnswer(body, reading, head), {
    onCancel: () => {
      generation.stop();
    },
    onError: (error) => {
      logFailure(server, head.id, error);
    },
  });
}

function checkFields(body: ChatBody): void {
  refuseUnsupported(body);
  const { logprobs, top_logprobs } = body;
  if (typeof top_logprobs === "number" && logprobs !== true) {
    throw badRequest("top_logprobs: expected logprobs to be true with it.", "top_logprobs");
  }
}

/** A completion under way, and what makes messages of it. */
interface ChatReading {
  readonly generation: Generation;
  /** One a choice. */
  readonly writers: readonly ChatMessageWriter[];
  readonly tokenizer: Tokenizer;
}

function messageWriters(
  { options }: ServerContext,
  choice: ToolChoice,
  n: number,
): ChatMessageWriter[] {
  const { toolCallParser: parser } = options;
  const format = parser === null ? null : TOOL_CALL_FORMATS[parser];
  return Array.from({ length: n }, () => new ChatMessageWriter(choice, format));
}

type ChatPrompt = Pick<ChatBody, "messages" | "tools"> &
  Partial<
    Pick<
      ChatBody,
      "tool_choice" | "add_generation_prompt" | "continue_final_message" | "chat_template_kwargs"
    >
  >;

/** Messages and tools as the prompt's token ids. The template writes the special tokens itself. */
export function renderChat(server: ServerContext, body: ChatPrompt): number[] {
  const template = requireTemplate(server);
  if (body.continue_final_message === true) throw notSupportedYet("continue_final_message");
  const text = template.render(body.messages, {
    tools: body.tool_choice === "none" ? undefined : (body.tools ?? undefined),
    addGenerationPrompt: body.add_generation_prompt ?? true,
    kwargs: body.chat_template_kwargs ?? undefined,
  });
  return tokenizerOf(server).encode(text, { addSpecialTokens: false });
}

function requireTemplate({ chatTemplate }: ServerContext): ChatTemplate {
  if (chatTemplate !== null) return chatTemplate;
  throw badRequest(
    "This model has no chat template: use /v1/completions, or start the server with --chat-template.",
    "messages",
    "no_chat_template",
  );
}

async function wholeAnswer(
  { generation, writers, tokenizer }: ChatReading,
  head: AnswerHead,
): Promise<object> {
  const all = await collectChoices(generation, writers.length);
  const choices = writers.map((writer, index) => {
    const outputs = all[index] ?? [];
    const piece = writer.write(outputs.map(({ text }) => text).join(""), true);
    const { content, toolCalls } = piece;
    const calls = toolCalls.map(({ id, type, function: called }) => ({
      id,
      type,
      function: called,
    }));
    const message = {
      role: "assistant",
      content: content === "" && calls.length > 0 ? null : content,
      refusal: null,
      ...(calls.length > 0 ? { tool_calls: calls } : {}),
    };
    return { index, message, ...ending(outputs, tokenizer, writer) };
  });
  return { ...head, choices, usage: generation.usage() };
}

/** What a message and a chunk have besides their text. */
function ending(
  outputs: readonly RequestOutput[],
  tokenizer: Tokenizer,
  writer: ChatMessageWriter | undefined,
): object {
  const entries = outputs.flatMap(({ logprobs }) => logprobs ?? []);
  const content = entries.map((entry) => chatLogprob(tokenizer, entry));
  const last = outputs.at(-1);
  const reason = finishReasonOf(last?.finishReason ?? null);
  const isCall = reason === "stop" && writer?.hasChosenCalls === true;
  return {
    logprobs: content.length === 0 ? null : { content, refusal: null },
    finish_reason: isCall ? "tool_calls" : reason,
    stop_reason: last?.stopReason ?? null,
  };
}

async function* streamAnswer(
  { stream_options: options }: ChatBody,
  { generation, writers, tokenizer }: ChatReading,
  head: AnswerHead,
): AsyncGenerator<object, void, undefined> {
  for (const index of writers.keys()) {
    const delta = { role: "assistant", content: "" };
    yield { ...head, choices: [{ index, delta, ...ending([], tokenizer, undefined) }] };
  }
  for await (const { choiceIndex: index, output } of generation.outputs) {
    const writer = writers[index];
    const piece = writer?.write(output.text, output.finishReason !== null);
    const delta = deltaOf(piece, output.finishReason !== null);
    yield { ...head, choices: [{ index, delta, ...ending([output], tokenizer, writer) }] };
  }
  if (options?.include_usage === true) yield { ...head, choices: [], usage: generation.usage() };
}

function deltaOf(piece: MessagePiece | undefined, isLast: boolean): object {
  const { content = "", toolCalls = [] } = piece ?? {};
  const calls = toolCalls.length > 0 ? { tool_calls: toolCalls } : {};
  const isEmpty = content === "" && (isLast || toolCalls.length > 0);
  return isEmpty ? calls : { content, ...calls };
}
