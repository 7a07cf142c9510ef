/** Text prompts of the commands whose runtime side takes token ids. */
import { open, readFile, stat } from "node:fs/promises";
import type { EngineArgs } from "../runtime/engineArgs.ts";
import type { Prompt } from "../runtime/llm.ts";
import type { loadTokenizer } from "../runtime/tokenizer.ts";

/** Model files on this machine's disk. */
const files: Parameters<typeof loadTokenizer>[0] = {
  exists: (path) =>
    stat(path).then(
      () => true,
      () => false,
    ),
  size: async (path) => (await stat(path)).size,
  readText: (path) => readFile(path, "utf8"),
  read: async (path, begin, end) => {
    await using file = await open(path);
    const bytes = new Uint8Array(end - begin);
    await file.read(bytes, 0, bytes.byteLength, begin);
    return bytes;
  },
};

/** The token ids of a prompt; a model that cannot be opened is found out here. */
export async function encodePrompt(args: EngineArgs, prompt: Prompt): Promise<readonly number[]> {
  if (typeof prompt !== "string") return prompt;
  const { openModel } = await import("../runtime/openModelNode.ts");
  const { spec } = await openModel(args);
  const { noTextCodec } = await import("../runtime/textCodec.ts");
  const { loadTokenizer } = await import("../runtime/tokenizer.ts");
  const codec = spec.dir === null ? noTextCodec([]) : await loadTokenizer(files, spec.dir);
  return codec.encode(prompt);
}
