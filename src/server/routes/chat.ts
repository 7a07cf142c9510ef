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
import { chatLogprob } from "../api/logprobs.ts";
import { checkContext, notSupportedYet, refuseUnsupported } from "../api/sampling.ts";
import { logFailure, type ServerContext, servedModel, tokenizerOf } from "../context.ts";
import { badRequest } from "../http/apiError.ts";
import { readJsonBody } from "../http/jsonBody.ts";
import { sseResponse } from "../http/sse.ts";
import { answerHead, type AnswerHead } from "./answerHead.ts";

/** The handler. */
export async function chatCompletions(server: ServerContext, { req }: Context): Promise<Response> {
  const body = await readJsonBody(req.raw, chatBody, server.options.maxRequestBytes);
  const model = servedModel(server, body.model);
  checkFields(server, body);
  const prompt = renderChat(server, body);
  const maxTokens = body.max_completion_tokens ?? body.max_tokens ?? undefined;
  if (maxTokens === 0) throw badRequest("max_tokens: expected at least 1.", "max_tokens");
  checkContext(prompt.length, maxTokens, server.replicas.model.executor.limits, "messages");
  const n = body.n ?? 1;
  const logprobs = body.logprobs === true ? (body.top_logprobs ?? 0) : undefined;
  const format = body.response_format;
  const spec = { prompts: [prompt], n, fields: body, format, maxTokens, logprobs };
  const generation = await startGeneration(server, spec, req.raw.signal);
  const tokenizer = tokenizerOf(server);
  if (body.stream !== true) {
    const head = answerHead("chatcmpl", "chat.completion", model);
    return Response.json(await wholeAnswer(n, generation, head, tokenizer));
  }
  const head = answerHead("chatcmpl", "chat.completion.chunk", model);
  return sseResponse(streamAnswer(body, generation, head, tokenizer), {
    onCancel: () => {
      generation.stop();
    },
    onError: (error) => {
      logFailure(server, head.id, error);
    },
  });
}

function checkFields(server: ServerContext, body: ChatBody): void {
  refuseUnsupported(server.unsupported, body);
  const { logprobs, top_logprobs, tool_choice } = body;
  if (typeof top_logprobs === "number" && logprobs !== true) {
    throw badRequest("top_logprobs: expected logprobs to be true with it.", "top_logprobs");
  }
  const isFree = ["auto", "none", null, undefined].includes(tool_choice as string | null);
  if (!isFree) {
    throw badRequest('tool_choice: expected "auto" or "none".', "tool_choice", "invalid_value");
  }
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
  n: number,
  generation: Generation,
  head: AnswerHead,
  tokenizer: Tokenizer,
): Promise<object> {
  const all = await collectChoices(generation, n);
  return {
    ...head,
    choices: all.map((outputs, index) => ({
      index,
      message: {
        role: "assistant",
        content: outputs.map(({ text }) => text).join(""),
        refusal: null,
      },
      ...ending(outputs, tokenizer),
    })),
    usage: generation.usage(),
  };
}

/** What a message and a chunk have besides their text. */
function ending(outputs: readonly RequestOutput[], tokenizer: Tokenizer): object {
  const entries = outputs.flatMap(({ logprobs }) => logprobs ?? []);
  const content = entries.map((entry) => chatLogprob(tokenizer, entry));
  const last = outputs.at(-1);
  return {
    logprobs: content.length === 0 ? null : { content, refusal: null },
    finish_reason: finishReasonOf(last?.finishReason ?? null),
    stop_reason: last?.stopReason ?? null,
  };
}

async function* streamAnswer(
  { n, stream_options: options }: ChatBody,
  generation: Generation,
  head: AnswerHead,
  tokenizer: Tokenizer,
): AsyncGenerator<object, void, undefined> {
  for (let index = 0; index < (n ?? 1); index++) {
    const delta = { role: "assistant", content: "" };
    yield { ...head, choices: [{ index, delta, ...ending([], tokenizer) }] };
  }
  for await (const { choiceIndex: index, output } of generation.outputs) {
    const delta =
      output.finishReason !== null && output.text === "" ? {} : { content: output.text };
    yield { ...head, choices: [{ index, delta, ...ending([output], tokenizer) }] };
  }
  if (options?.include_usage === true) yield { ...head, choices: [], usage: generation.usage() };
}
