/** The bodies of POST /tokenize and /detokenize, as vLLM has them. */
import { z } from "zod";
import { chatBody } from "./chatSchema.ts";

export const tokenizeBody = z.object({
  model: z.string().nullish(),
  /** A text, or instead messages that go through the chat template. */
  prompt: z.string().nullish(),
  messages: chatBody.shape.messages.nullish(),
  tools: chatBody.shape.tools,
  add_special_tokens: z.boolean().nullish(),
  add_generation_prompt: z.boolean().nullish(),
  return_token_strs: z.boolean().nullish(),
});

export const detokenizeBody = z.object({
  model: z.string().nullish(),
  tokens: z.array(z.number().int().min(0)),
});
