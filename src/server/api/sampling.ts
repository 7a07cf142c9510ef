/** From a request's fields to what the engine takes. */
import type { LoadedModel } from "../../runtime/loadModel.ts";
import type { SamplingOptions } from "../../runtime/samplingParams.ts";
import type { ExecutorLimits } from "../../runtime/executor/executor.ts";
import { badRequest } from "../http/apiError.ts";
import type { SamplingFields } from "./fields.ts";

const SEEDS = 2 ** 32;

/** Fields whose device half is missing: they would be taken and have no effect. */
export const UNSUPPORTED: ReadonlySet<string> = new Set([
  "logit_bias",
  "logprobs",
  "min_tokens",
  "response_format",
]);

/** A field, else what the checkpoint recommends, else the engine's default. */
export function samplingOptions(
  fields: SamplingFields,
  recommended: LoadedModel["generation"],
  maxTokens: number | undefined,
): SamplingOptions {
  const temperature = recommended.doSample === false ? 0 : recommended.temperature;
  return {
    temperature: fields.temperature ?? temperature ?? undefined,
    topK: fields.top_k ?? recommended.topK ?? undefined,
    topP: fields.top_p ?? recommended.topP ?? undefined,
    minP: fields.min_p ?? recommended.minP ?? undefined,
    repetitionPenalty: fields.repetition_penalty ?? recommended.repetitionPenalty ?? undefined,
    presencePenalty: fields.presence_penalty ?? undefined,
    frequencyPenalty: fields.frequency_penalty ?? undefined,
    ignoreEos: fields.ignore_eos ?? undefined,
    stopTokenIds: fields.stop_token_ids ?? undefined,
    stop: typeof fields.stop === "string" ? [fields.stop] : (fields.stop ?? undefined),
    includeStopStrInOutput: fields.include_stop_str_in_output ?? undefined,
    logitBias: fields.logit_bias ?? undefined,
    minTokens: fields.min_tokens ?? undefined,
    maxTokens,
  };
}

/** Draws of choice `index`: the request's seed (of which the engine keeps 32 bits), and the ones after it. */
export function seedOfChoice(
  seed: number | null | undefined,
  index: number,
): { readonly seed?: number } {
  if (seed === null || seed === undefined) return {};
  return { seed: (((seed + index) % SEEDS) + SEEDS) % SEEDS };
}

/** Throws a 400 for a field in use that is in `unsupported`. */
export function refuseUnsupported(
  unsupported: ReadonlySet<string>,
  fields: SamplingFields & { readonly logprobs?: unknown; readonly response_format?: unknown },
): void {
  const { logit_bias: bias, logprobs, response_format: format } = fields;
  const isUsed = {
    logit_bias: Object.keys(bias ?? {}).length > 0,
    logprobs: logprobs !== null && logprobs !== undefined && logprobs !== false,
    min_tokens: (fields.min_tokens ?? 0) > 0,
    response_format: ((format ?? { type: "text" }) as { type: string }).type !== "text",
  };
  for (const [field, used] of Object.entries(isUsed)) {
    if (used && unsupported.has(field)) throw notSupportedYet(field);
  }
  if (fields.skip_special_tokens === false) throw notSupportedYet("skip_special_tokens");
}

export function notSupportedYet(field: string): Error {
  return badRequest(`${field} is not supported yet.`, field, "unsupported_parameter");
}

/** Refuses what cannot fit, in OpenAI's words, before the engine would. */
export function checkContext(
  promptLength: number,
  maxTokens: number | undefined,
  { maxModelLen }: Pick<ExecutorLimits, "maxModelLen">,
  param: string,
): void {
  const wanted = promptLength + (maxTokens ?? 1);
  if (wanted <= maxModelLen) return;
  const asked =
    maxTokens === undefined
      ? `your prompt has ${promptLength} tokens, which leaves none to generate`
      : `you requested ${wanted} tokens (${promptLength} in the prompt, ${maxTokens} to generate)`;
  throw badRequest(
    `This model's maximum context length is ${maxModelLen} tokens. However, ${asked}.`,
    param,
    "context_length_exceeded",
  );
}
