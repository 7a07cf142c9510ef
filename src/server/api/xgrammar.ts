/**
 * Loads @mlc-ai/web-xgrammar. Its file is CommonJS in a package that calls itself a module, which Node
 * can import as neither; so it is compiled here as what it is.
 */
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { compileFunction } from "node:vm";
import type * as xgrammar from "@mlc-ai/web-xgrammar";

export type XGrammar = typeof xgrammar;

/** An instance of the library with memory of its own. */
export interface XGrammarInstance {
  readonly api: XGrammar;
  /** What it complained of last, less the place in its source; "" for nothing. */
  lastComplaint(): string;
}

/** Takes about 40 ms. */
export async function loadXGrammar(): Promise<XGrammarInstance> {
  const require = createRequire(import.meta.url);
  const filename = require.resolve("@mlc-ai/web-xgrammar");
  const names = ["exports", "module", "require", "__filename", "console"];
  const source = await readFile(filename, "utf8");
  // A function compiled here may require, but not import.
  const code = source.replaceAll("await import('module')", "require('module')");
  const run = compileFunction(code, names, { filename }) as (
    exports: object,
    module: object,
    require: NodeJS.Require,
    filename: string,
    console: object,
  ) => void;
  const module = { exports: {} };
  let complaint = "";
  const note = (text: unknown): void => {
    const [, said] = /^\[FATAL\] \S+: (.*)/.exec(String(text)) ?? [];
    complaint = said ?? complaint;
  };
  run(module.exports, module, require, filename, { log: note, warn: note, error: note });
  return { api: module.exports as XGrammar, lastComplaint: () => complaint };
}
