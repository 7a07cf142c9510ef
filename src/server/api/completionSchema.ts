/** The body of POST /v1/completions. */
import { z } from "zod";
import { responseFormat, samplingFields } from "./fields.ts";

const tokenIds = z.array(z.number().int().min(0)).min(1);

export const completionBody = z.object({
  ...samplingFields,
  prompt: z.union(
    [z.string(), z.array(z.string()).min(1).max(64), tokenIds, z.array(tokenIds).min(1).max(64)],
    { error: "expected a text, a list of texts, token ids, or a list of lists of token ids" },
  ),
  echo: z.boolean().nullish(),
  suffix: z.string().nullish(),
  best_of: z.number().int().min(1).nullish(),
  logprobs: z.number().int().min(0).max(20).nullish(),
  add_special_tokens: z.boolean().nullish(),
  response_format: responseFormat.nullish(),
});

export type CompletionBody = z.output<typeof completionBody>;
