/**
 * Loads @mlc-ai/web-xgrammar. Its file is CommonJS in a package that calls itself a module, which Node
 * can import as neither; so it is compiled here as what it is.
 */
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { compileFunction } from "node:vm";
import type * as xgrammar from "@mlc-ai/web-xgrammar";

export type XGrammar = typeof xgrammar;

let loaded: Promise<XGrammar> | undefined; // 1 MB of WebAssembly: once a process

export function loadXGrammar(): Promise<XGrammar> {
  return (loaded ??= load());
}

async function load(): Promise<XGrammar> {
  const require = createRequire(import.meta.url);
  const filename = require.resolve("@mlc-ai/web-xgrammar");
  const names = ["exports", "module", "require", "__filename"];
  const source = await readFile(filename, "utf8");
  // A function compiled here may require, but not import.
  const code = source.replaceAll("await import('module')", "require('module')");
  const run = compileFunction(code, names, { filename }) as (
    exports: object,
    module: object,
    require: NodeJS.Require,
    filename: string,
  ) => void;
  const module = { exports: {} };
  run(module.exports, module, require, filename);
  return module.exports as XGrammar;
}
