/** A tokenizer.json's tokens in the order of their ids, as the grammar engine wants them. */
import { z } from "zod";
import { ConfigError } from "../../common/errors.ts";

/** How a token's text stands for bytes: GPT-2's letters, `<0x0A>`, or as it is. */
export type VocabularyKind = "byte_level" | "byte_fallback" | "raw";

export interface Vocabulary {
  /** Special tokens are "": no grammar may put them into its text. */
  readonly tokens: string[];
  readonly kind: VocabularyKind;
}

const tokenizerFile = z.object({
  model: z.object({
    vocab: z.union([
      z.record(z.string(), z.number()),
      z.array(z.tuple([z.string(), z.number()])), // Unigram: with scores, in order
    ]),
    byte_fallback: z.boolean().nullish(),
  }),
  added_tokens: z
    .array(z.object({ id: z.number(), content: z.string(), special: z.boolean() }))
    .nullish(),
  pre_tokenizer: z.unknown().optional(),
  decoder: z.unknown().optional(),
});

export function readVocabulary(json: unknown): Vocabulary {
  const parsed = tokenizerFile.safeParse(json);
  if (!parsed.success) {
    const [what, expected] = ["tokenizer.json", "a vocabulary"];
    throw new ConfigError({ what, expected, got: z.prettifyError(parsed.error) });
  }
  const { model, added_tokens: added, pre_tokenizer, decoder } = parsed.data;
  const tokens: string[] = [];
  if (Array.isArray(model.vocab)) tokens.push(...model.vocab.map(([token]) => token));
  else for (const [token, id] of Object.entries(model.vocab)) tokens[id] = token;
  for (const { id, content, special } of added ?? []) tokens[id] = special ? "" : content;
  const isByteLevel = mentions([pre_tokenizer, decoder], "ByteLevel");
  const isFallback = model.byte_fallback === true || mentions([decoder], "ByteFallback");
  const kind = isByteLevel ? "byte_level" : isFallback ? "byte_fallback" : "raw";
  return { tokens: Array.from(tokens, (token: string | undefined) => token ?? ""), kind };
}

/** Some step of these is of this type. */
function mentions(steps: readonly unknown[], type: string): boolean {
  return JSON.stringify(steps).includes(`"type":"${type}"`);
}
