/** Fields that completions and chat share: OpenAI's, and vLLM's beyond them. Null means left out. */
import { z } from "zod";

const whole = z.number().int();

export const streamOptions = z.object({
  include_usage: z.boolean().nullish(),
  continuous_usage_stats: z.boolean().nullish(),
});

export const samplingFields = {
  model: z.string().nullish(),
  user: z.string().nullish(),
  n: whole.min(1).max(128).nullish(),
  stream: z.boolean().nullish(),
  stream_options: streamOptions.nullish(),
  max_tokens: whole.min(0).nullish(),
  min_tokens: whole.min(0).nullish(),
  temperature: z.number().min(0).max(100).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  top_k: whole.min(-1).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  repetition_penalty: z.number().gt(0).max(100).nullish(),
  seed: whole.nullish(),
  stop: z
    .union([z.string().min(1), z.array(z.string().min(1)).max(16)], {
      error: "expected a string, or a list of at most 16 strings, none of them empty",
    })
    .nullish(),
  stop_token_ids: z.array(whole.min(0)).max(64).nullish(),
  include_stop_str_in_output: z.boolean().nullish(),
  ignore_eos: z.boolean().nullish(),
  skip_special_tokens: z.boolean().nullish(),
  logit_bias: z
    .record(z.string().regex(/^\d+$/, "expected token ids as keys"), z.number().min(-100).max(100))
    .nullish(),
  priority: whole.nullish(),
} as const;

const jsonSchemaFormat = z.object({
  type: z.literal("json_schema"),
  json_schema: z.object({
    name: z.string().nullish(),
    description: z.string().nullish(),
    schema: z.record(z.string(), z.unknown()),
    strict: z.boolean().nullish(),
  }),
});

export const responseFormat = z.discriminatedUnion("type", [
  z.object({ type: z.literal("text") }),
  z.object({ type: z.literal("json_object") }),
  jsonSchemaFormat,
]);

export type ResponseFormat = z.output<typeof responseFormat>;

export type SamplingFields = z.output<z.ZodObject<typeof samplingFields>>;
