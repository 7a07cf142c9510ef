/** Completions that can only be JSON: a grammar says before each token which tokens may follow. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type * as xgrammar from "@mlc-ai/web-xgrammar";
import { messageOf } from "../../common/errors.ts";
import type { AllowedTokens } from "../../runtime/request.ts";
import type { ResponseFormat } from "./fields.ts";
import { readVocabulary } from "./vocabulary.ts";
import { refused, SchemaCheck } from "./schemaCheck.ts";
import { loadXGrammar, type XGrammar } from "./xgrammar.ts";

/** One completion's place in its grammar. Dispose it: the matcher lives outside JavaScript's heap. */
export interface TokenConstraint {
  readonly allowedTokens: AllowedTokens;
  dispose(): void;
}

/** Grammars kept: compiling one for a vocabulary of 128K takes a second or so. */
const MAX_COMPILED = 32;
/** `json_object`: as OpenAI says, an object rather than any value. */
const ANY_OBJECT = { type: "object" };

/** Where schemas become grammars over one vocabulary. */
interface Compiler {
  readonly api: XGrammar;
  readonly compiler: xgrammar.GrammarCompiler;
}

export class GrammarFactory {
  readonly #compiler: Compiler;
  readonly #check = new SchemaCheck();
  readonly #compiled = new Map<string, Promise<xgrammar.CompiledGrammar>>(); // by schema, oldest first

  private constructor(compiler: Compiler) {
    this.#compiler = compiler;
  }

  /** For the tokenizer.json of a model directory; `vocabSize` is the logits'. */
  static async load(
    dir: string,
    vocabSize: number,
    stopTokenIds: readonly number[],
  ): Promise<GrammarFactory> {
    const json: unknown = JSON.parse(await readFile(join(dir, "tokenizer.json"), "utf8"));
    const { tokens, kind } = readVocabulary(json);
    const { api } = await loadXGrammar();
    const info = await api.TokenizerInfo.createTokenizerInfo(
      tokens,
      kind,
      kind === "byte_fallback",
      vocabSize,
      [...stopTokenIds],
    );
    const compiler = await api.GrammarCompiler.createGrammarCompiler(info);
    return new GrammarFactory({ api, compiler });
  }

  /** A constraint for one completion; null where the format asks for none. */
  async constrain(format: ResponseFormat | null | undefined): Promise<TokenConstraint | null> {
    if (format === null || format === undefined || format.type === "text") return null;
    // Strict: an object has the properties that its schema names, and no others.
    const [schema, isStrict] =
      format.type === "json_object" ? [ANY_OBJECT, false] : [format.json_schema.schema, true];
    const grammar = await this.#compile(JSON.stringify(schema), isStrict);
    const { GrammarMatcher } = this.#compiler.api;
    return new GrammarConstraint(await GrammarMatcher.createGrammarMatcher(grammar));
  }

  #compile(schema: string, isStrict: boolean): Promise<xgrammar.CompiledGrammar> {
    const known = this.#compiled.get(schema);
    if (known !== undefined) return known;
    const compiled = this.#compileNew(schema, isStrict).catch((error: unknown) => {
      this.#compiled.delete(schema);
      throw error;
    });
    this.#compiled.set(schema, compiled);
    const [oldest] = this.#compiled.keys();
    if (this.#compiled.size > MAX_COMPILED && oldest !== undefined) this.#compiled.delete(oldest);
    return compiled;
  }

  async #compileNew(schema: string, isStrict: boolean): Promise<xgrammar.CompiledGrammar> {
    await this.#check.check(schema, isStrict);
    const { compiler } = this.#compiler;
    try {
      // Two spaces at most between elements: a model may otherwise fill its tokens with blanks.
      return await compiler.compileJSONSchema(schema, true, 2, undefined, isStrict, 2);
    } catch (error) {
      throw refused(messageOf(error));
    }
  }
}

/** What the package's own getNextTokenBitmask calls; that one is async, the engine asks in between two steps. */
interface MatcherHandle {
  GetNextTokenBitmask(vocabSize: number): {
    size(): number;
    get(index: number): number;
    delete(): void;
  };
}

class GrammarConstraint implements TokenConstraint {
  readonly #matcher: xgrammar.GrammarMatcher;
  #numAccepted = 0;
  #isDisposed = false;

  constructor(matcher: xgrammar.GrammarMatcher) {
    this.#matcher = matcher;
  }

  /** The engine asks with the whole completion; only its new tokens move the grammar on. */
  readonly allowedTokens: AllowedTokens = (completion) => {
    if (this.#isDisposed) return null;
    if (completion.length < this.#numAccepted) this.#restart();
    for (const tokenId of completion.slice(this.#numAccepted)) this.#matcher.acceptToken(tokenId);
    this.#numAccepted = completion.length;
    return this.#mask();
  };

  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#matcher.dispose();
  }

  /** The completion began again, on another replica. */
  #restart(): void {
    this.#matcher.reset();
    this.#numAccepted = 0;
  }

  #mask(): Uint32Array {
    const { handle, vocab_size: vocabSize } = this.#matcher as unknown as {
      readonly handle: MatcherHandle;
      readonly vocab_size: number;
    };
    const words = handle.GetNextTokenBitmask(vocabSize);
    const mask = Uint32Array.from({ length: words.size() }, (_, index) => words.get(index));
    words.delete();
    return mask;
  }
}
