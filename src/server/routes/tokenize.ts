/** POST /tokenize and /detokenize, as vLLM has them. */
import type { Context } from "hono";
import { tokenText } from "../api/logprobs.ts";
import { detokenizeBody, tokenizeBody } from "../api/tokenizeSchema.ts";
import { type ServerContext, servedModel, tokenizerOf } from "../context.ts";
import { badRequest } from "../http/apiError.ts";
import { readJsonBody } from "../http/jsonBody.ts";
import { renderChat } from "./chat.ts";

export async function tokenize(server: ServerContext, { req }: Context): Promise<Response> {
  const body = await readJsonBody(req.raw, tokenizeBody, server.options.maxRequestBytes);
  servedModel(server, body.model);
  const { prompt, messages, tools, add_special_tokens, add_generation_prompt } = body;
  const hasPrompt = typeof prompt === "string";
  if (hasPrompt === Array.isArray(messages)) {
    throw badRequest("Expected either prompt or messages.", "prompt");
  }
  const addSpecialTokens = add_special_tokens ?? true;
  const tokens = hasPrompt
    ? tokenizerOf(server).encode(prompt, { addSpecialTokens })
    : renderChat(server, { messages: messages ?? [], tools, add_generation_prompt });
  const textOf = (token: number): string => tokenText(tokenizerOf(server), token);
  const strings = body.return_token_strs === true ? tokens.map(textOf) : null;
  const { maxModelLen } = server.replicas.model.executor.limits;
  return Response.json({
    count: tokens.length,
    max_model_len: maxModelLen,
    tokens,
    token_strs: strings,
  });
}

export async function detokenize(server: ServerContext, { req }: Context): Promise<Response> {
  const body = await readJsonBody(req.raw, detokenizeBody, server.options.maxRequestBytes);
  servedModel(server, body.model);
  const prompt = tokenizerOf(server).decode(body.tokens, { skipSpecialTokens: false });
  return Response.json({ prompt });
}
