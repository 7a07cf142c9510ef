/** `logits`: what the model says after every token of a prompt, as a safetensors file. */
import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { type Command, Option } from "commander";
import { messageOf, UsageError } from "../common/errors.ts";
import type { LogitsResult } from "../runtime/logits.ts";
import type { CommandContext } from "./context.ts";
import {
  addJsonFlag,
  addModelFlags,
  addPromptFlags,
  type JsonFlag,
  type ModelFlags,
  type PromptFlags,
} from "./flags.ts";
import { layoutAsJson } from "./generateReport.ts";
import { ensureAdapter } from "./launcher/softwareGpu.ts";
import { showLoading } from "./loadProgress.ts";
import { engineArgs, requiredPrompt } from "./modelArgs.ts";
import { encodePrompt } from "./promptIds.ts";
import { formatFigure } from "./table.ts";

interface LogitsFlags extends ModelFlags, PromptFlags, JsonFlag {
  readonly out: string;
}

/** Adds the command to the program. */
export function addLogits(program: Command, context: CommandContext): void {
  const command = program
    .command("logits")
    .summary("write a prompt's logits to a safetensors file")
    .description(
      "Writes f32 `logits` [numTokens, vocabSize] of the layout, with an f32 KV cache unless told otherwise.",
    )
    .argument("[prompt]", "the text to run");
  addPromptFlags(command);
  command.addOption(
    new Option("--out <file>", "the safetensors file").makeOptionMandatory().helpGroup("Output:"),
  );
  addJsonFlag(command, "one JSON object on stdout; on stderr nothing but errors");
  addModelFlags(command);
  command.action(async (text: string | undefined, flags: LogitsFlags) => {
    const prompt = requiredPrompt(text, flags);
    const args = engineArgs(flags);
    await checkOutFile(flags.out);
    const promptIds = await encodePrompt(args, prompt);
    await ensureAdapter();
    const { computeLogits, writeLogits } = await import("../runtime/logits.ts");
    const display = showLoading(context.stderr, flags.json === true);
    const result = await computeLogits(args, [...promptIds], display.events).finally(display.stop);
    await writeLogits(flags.out, result);
    const isJson = flags.json === true;
    context.print(isJson ? JSON.stringify(logitsAsJson(flags.out, result)) : describe(flags.out, result)); // prettier-ignore
  });
}

/** Refuses a file that cannot be written before minutes go into its contents. */
async function checkOutFile(path: string): Promise<void> {
  const refuse = (expected: string, got: string): never => {
    throw new UsageError({ what: `--out ${path}`, expected, got });
  };
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory() === true) refuse("a file", "a folder");
  const folder = dirname(path);
  try {
    await access(folder, constants.W_OK);
  } catch (error) {
    refuse("a file in a folder that can be written to", messageOf(error));
  }
  if (!(await stat(folder)).isDirectory()) refuse(`${folder} to be a folder`, "a file");
}

/** The likeliest token after the prompt. */
function lastTop({ logits, shape: [numTokens, vocabSize] }: LogitsResult): {
  readonly tokenId: number;
  readonly logit: number;
} {
  const last = logits.subarray((numTokens - 1) * vocabSize, numTokens * vocabSize);
  const tokenId = last.reduce((best, logit, id) => (logit > (last[best] ?? 0) ? id : best), 0);
  return { tokenId, logit: last[tokenId] ?? Number.NaN };
}

function describe(out: string, result: LogitsResult): string {
  const { tokenId, logit } = lastTop(result);
  return `${out}: logits [${result.shape.join(", ")}] f32; after the last token ${tokenId} leads with ${formatFigure(logit)}`;
}

function logitsAsJson(out: string, result: LogitsResult): Record<string, unknown> {
  const { tokenId, logit } = lastTop(result);
  return {
    out,
    shape: result.shape,
    last_token: { argmax: tokenId, logit },
    layout: layoutAsJson(result.layout),
  };
}
