/** Text to token ids and back, by a Hugging Face tokenizer.json. */
import * as huggingFace from "@huggingface/tokenizers";
import { type FileSource, joinPath, readJson } from "../../models/weights/files.ts";
import { ConfigError, messageOf } from "../common/errors.ts";
import type { StreamDecoder, TextCodec } from "./textCodec.ts";

/** What is used of the package. Its own declarations leave out file endings, so do not resolve here. */
interface HfTokenizer {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
  decode(
    ids: readonly number[],
    options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean },
  ): string;
  id_to_token(id: number): string | undefined;
  token_to_id(token: string): number | undefined;
}

const HfTokenizer = huggingFace.Tokenizer as unknown as new (
  tokenizer: object,
  config: object,
) => HfTokenizer;

export interface EncodeOptions {
  /** Put what the model expects before and after a text, such as BOS; true when left out. */
  readonly addSpecialTokens?: boolean;
}

export interface DecodeOptions {
  /** Leave out BOS, EOS and the like; true when left out. */
  readonly skipSpecialTokens?: boolean;
}

export interface StreamOptions extends DecodeOptions {
  /** Ids before the first one pushed, as the prompt's: they decide whether a space leads. */
  readonly context?: readonly number[];
}

/** A model's vocabulary and rules. */
export class Tokenizer implements TextCodec {
  /** null where the model names none. */
  readonly bosTokenId: number | null;
  /** The tokenizer's own and those the model adds: any of them ends a completion. */
  readonly eosTokenIds: readonly number[];
  readonly #tokenizer: HfTokenizer;

  /** `tokenizerJson` and `configJson` are the parsed files; `modelEosTokenIds` is ModelConfig's. */
  constructor(
    tokenizerJson: unknown,
    configJson: unknown,
    modelEosTokenIds: readonly number[] = [],
  ) {
    try {
      this.#tokenizer = new HfTokenizer(
        Object(tokenizerJson) as object,
        Object(configJson) as object,
      );
    } catch (error) {
      throw new ConfigError({
        what: "tokenizer.json",
        expected: "a tokenizer",
        got: messageOf(error),
      });
    }
    const config = Object(configJson) as Record<string, unknown>;
    this.bosTokenId = this.#idOf(config["bos_token"]);
    const own = this.#idOf(config["eos_token"]);
    this.eosTokenIds = [...new Set(own === null ? modelEosTokenIds : [own, ...modelEosTokenIds])];
  }

  encode(text: string, { addSpecialTokens = true }: EncodeOptions = {}): number[] {
    const { ids } = this.#tokenizer.encode(text, { add_special_tokens: addSpecialTokens });
    return ids;
  }

  /**
   * The text exactly as the ids spell it: unlike transformers' decode(), never tidied around
   * punctuation, which a stream could not undo. Ids that no token has (a vocabulary padded for
   * alignment) spell nothing.
   */
  decode(ids: readonly number[], { skipSpecialTokens = true }: DecodeOptions = {}): string {
    const known = ids.filter((id) => this.#tokenizer.id_to_token(id) !== undefined);
    if (known.length === 0) return "";
    return this.#tokenizer.decode(known, {
      skip_special_tokens: skipSpecialTokens,
      clean_up_tokenization_spaces: false,
    });
  }

  streamDecoder(options: StreamOptions = {}): TokenStreamDecoder {
    return new TokenStreamDecoder(this, options);
  }

  /** tokenizer_config.json names a token by its text, or by an object around it. */
  #idOf(token: unknown): number | null {
    const text =
      typeof token === "string" ? token : (Object(token) as { content?: unknown }).content;
    return typeof text === "string" ? (this.#tokenizer.token_to_id(text) ?? null) : null;
  }
}

/** Reads tokenizer.json and, where it exists, tokenizer_config.json of a model directory. */
export async function loadTokenizer(
  files: FileSource,
  dir: string,
  modelEosTokenIds: readonly number[] = [],
): Promise<Tokenizer> {
  const path = joinPath(dir, "tokenizer.json");
  if (!(await files.exists(path))) {
    throw new ConfigError({
      what: path,
      expected: "the model's tokenizer",
      got: "no such file",
      remedy: "add it, or give the prompt as --prompt-ids",
    });
  }
  const configPath = joinPath(dir, "tokenizer_config.json");
  const hasConfig = await files.exists(configPath);
  const config = hasConfig ? await readJson(files, configPath, ConfigError) : {};
  return new Tokenizer(await readJson(files, path, ConfigError), config, modelEosTokenIds);
}

/** Stands for bytes that are no character, or not yet one. */
const REPLACEMENT = "\uFFFD";
/** Enough tokens before the first new one to decide its leading space, as in vLLM. */
const CONTEXT_TOKENS = 5;

/**
 * Decodes ids one by one into text that never has to be taken back: what push() and end() return
 * is, joined, the decoding of all ids. Text is held back while it ends inside a character.
 *
 * A token's text depends on the ones before it (a leading space, the bytes of one character), so
 * each new text is the difference of two decodings that begin at the same token: #ids up to #read,
 * and all #ids (vLLM's and text-generation-inference's prefix-offset method).
 */
export class TokenStreamDecoder implements StreamDecoder {
  readonly #tokenizer: Tokenizer;
  readonly #options: DecodeOptions;
  #ids: number[];
  /** Ids whose text is out already. */
  #read: number;

  constructor(tokenizer: Tokenizer, { context = [], ...options }: StreamOptions = {}) {
    this.#tokenizer = tokenizer;
    this.#options = options;
    this.#ids = context.slice(-CONTEXT_TOKENS);
    this.#read = this.#ids.length;
  }

  /** Text that this id completes; "" while it only begins a character. */
  push(id: number): string {
    this.#ids.push(id);
    const text = this.#newText();
    if (text === "" || text.endsWith(REPLACEMENT)) return "";
    this.#ids = this.#ids.slice(this.#read);
    this.#read = this.#ids.length;
    return text;
  }

  /** What was held back: a character that never came to its end. Nothing may be pushed after. */
  end(): string {
    const text = this.#newText();
    this.#ids = [];
    this.#read = 0;
    return text;
  }

  #newText(): string {
    const before = this.#tokenizer.decode(this.#ids.slice(0, this.#read), this.#options);
    return this.#tokenizer.decode(this.#ids, this.#options).slice(before.length);
  }
}
