/** Sampling defaults that a checkpoint brings in generation_config.json. */
import type { Fields } from "./fields.ts";

/** What the checkpoint's makers recommend; null where they say nothing. A flag always wins. */
export interface GenerationDefaults {
  /** false asks for greedy decoding, whatever the temperature says. */
  readonly doSample: boolean | null;
  readonly temperature: number | null;
  readonly topK: number | null;
  readonly topP: number | null;
  readonly minP: number | null;
  readonly repetitionPenalty: number | null;
}

export function parseGenerationDefaults(fields: Fields | undefined): GenerationDefaults {
  return {
    doSample: fields?.has("do_sample") === true ? fields.boolean("do_sample", false) : null,
    temperature: fields?.number("temperature") ?? null,
    topK: fields?.number("top_k") ?? null,
    topP: fields?.number("top_p") ?? null,
    minP: fields?.number("min_p") ?? null,
    repetitionPenalty: fields?.number("repetition_penalty") ?? null,
  };
}
