/** From a request's fields to what the engine takes. */
import type { LoadedModel } from "../../runtime/loadModel.ts";
import type { SamplingOptions } from "../../runtime/samplingParams.ts";
import type { ExecutorLimits } from "../../runtime/executor/executor.ts";
import { badRequest } from "../http/apiError.ts";
import type { SamplingFields } from "./fields.ts";

const SEEDS = 2 ** 32;

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

/** Throws a 400 for a field that would be taken and have no effect. */
export function refuseUnsupported({ skip_special_tokens: skips }: SamplingFields): void {
  if (skips === false) throw notSupportedYet("skip_special_tokens");
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
