/**
 * Finds out whether a JSON schema can be made a grammar. The library aborts on one that cannot, and an abort
 * leaves its WebAssembly stack where it was: after some thirty of them it hangs. So schemas are tried on an
 * instance of their own, which is thrown away in time; the one that compiles sees only those that passed.
 */
import { badRequest } from "../http/apiError.ts";
import { loadXGrammar, type XGrammarInstance } from "./xgrammar.ts";

const MAX_ABORTS = 8;
/** Compiling takes the time of the square of it, and more; no honest schema comes near. */
const MAX_SCHEMA_LENGTH = 64 << 10;

export class SchemaCheck {
  #instance: Promise<XGrammarInstance> | undefined;
  #numAborts = 0;

  /** Throws a 400 unless the schema, as JSON, can be made a grammar. */
  async check(schema: string, isStrict: boolean): Promise<void> {
    if (schema.length > MAX_SCHEMA_LENGTH) {
      throw refused(`it has ${schema.length} characters, of which ${MAX_SCHEMA_LENGTH} may be`);
    }
    const instance = await (this.#instance ??= loadXGrammar());
    try {
      const grammar = await instance.api.Grammar.fromJSONSchema(
        schema,
        true,
        2,
        undefined,
        isStrict,
        2,
      );
      grammar.dispose();
    } catch {
      this.#numAborts += 1;
      if (this.#numAborts % MAX_ABORTS === 0) this.#instance = undefined;
      throw refused(instance.lastComplaint());
    }
  }
}

export function refused(why: string): Error {
  const message = `The schema cannot be made a grammar: ${why === "" ? "no reason was given" : why}`;
  return badRequest(message, "response_format.json_schema.schema", "invalid_value");
}
