/** `generate`: one prompt in, its completion on stdout as it is generated. */
import type { Command } from "commander";
import type { Prompt } from "../runtime/llm.ts";
import type { LoadedModel } from "../runtime/loadModel.ts";
import type { FinishReason } from "../runtime/request.ts";
import { type CommandContext, dim } from "./context.ts";
import {
  addJsonFlag,
  addModelFlags,
  addPromptFlags,
  addSamplingFlags,
  type JsonFlag,
  type ModelFlags,
  type PromptFlags,
  type SamplingFlags,
  samplingOptions,
} from "./flags.ts";
import { describeRun, type GenerationRun, runAsJson } from "./generateReport.ts";
import { withModel } from "./loadedModel.ts";
import { DEMO_TP_SIZE, engineArgs, requiredPrompt } from "./modelArgs.ts";
import { refuseMistypedCommand } from "./usageErrors.ts";

interface GenerateFlags extends ModelFlags, SamplingFlags, PromptFlags, JsonFlag {}

/** vLLM's 16 cuts a story short; filling the context may take minutes. */
const DEFAULT_MAX_TOKENS = 200;

/** What of a LoadedModel a generation uses. */
export type GeneratingModel = Pick<
  LoadedModel,
  "llm" | "codec" | "generation" | "layout" | "stats" | "resetStats" | "bandwidthGBps"
> & { readonly executor: Pick<LoadedModel["executor"], "limits"> };

/** Adds the command to the program, as the one that runs where none is named. */
export function addGenerate(program: Command, context: CommandContext): void {
  const command = program
    .command("generate", { isDefault: true })
    .summary("continue a prompt (the default command)")
    .description("Continues a prompt: text on stdout, the plan and the speed on stderr.")
    .argument("[prompt]", "the text to continue");
  addPromptFlags(command);
  addSamplingFlags(command, `${DEFAULT_MAX_TOKENS}, or what the context leaves`);
  addModelFlags(command, DEMO_TP_SIZE);
  addJsonFlag(command, "one JSON object on stdout; on stderr nothing but errors");
  command.action(async (text: string | undefined, flags: GenerateFlags) => {
    if (text !== undefined) refuseMistypedCommand(program, context.argv, text);
    const prompt = requiredPrompt(text, flags);
    const isQuiet = flags.json === true;
    const args = engineArgs(flags, DEMO_TP_SIZE);
    const first = { prompt, sampling: { maxTokens: flags.maxTokens } };
    await withModel(args, first, isQuiet, context, async (model, loadMs) => {
      const load = model.loadTimings;
      const run = { ...(await generate(model, prompt, flags, context)), loadMs, load };
      if (isQuiet) context.print(JSON.stringify(runAsJson(run)));
      else context.say(describeRun(run));
    });
  });
}

/** Streams one completion to stdout (with --json nothing), then asks what it cost. */
export async function generate(
  model: GeneratingModel,
  prompt: Prompt,
  flags: GenerateFlags,
  context: CommandContext,
): Promise<Omit<GenerationRun, "loadMs" | "load">> {
  const promptTokenIds = typeof prompt === "string" ? model.codec.encode(prompt) : prompt;
  const sampling = {
    ...samplingOptions(flags, model.generation),
    maxTokens: flags.maxTokens ?? defaultMaxTokens(model, promptTokenIds.length),
  };
  const { stdout, stop } = context;
  const isQuiet = flags.json === true;
  const requestStream = model.llm.generate(promptTokenIds, sampling);
  const abort = (): boolean => model.llm.engine.abort(requestStream.requestId);
  stop.signal.addEventListener("abort", abort, { once: true });
  const echo = typeof prompt === "string" && stdout.isTTY === true && !isQuiet;
  if (echo) stdout.write(dim(prompt, stdout));
  const tokenIds: number[] = [];
  let text = "";
  let finishReason: FinishReason = null;
  for await (const output of requestStream) {
    // Prefill has other collectives than the steps that the figures are about.
    if (tokenIds.length === 0) await model.resetStats();
    if (output.tokenId !== null) tokenIds.push(output.tokenId);
    text += output.text;
    if (!isQuiet) stdout.write(output.text);
    finishReason = output.finishReason;
  }
  if (!isQuiet) stdout.write("\n");
  const { timings } = requestStream;
  const decodeStats = await model.stats();
  const bandwidthGBps = stop.signal.aborted ? null : await model.bandwidthGBps();
  const { layout, llm } = model;
  const { bubbleFraction } = llm.engine.stats;
  return {
    text,
    promptTokenIds,
    tokenIds,
    finishReason,
    timings,
    decodeStats,
    bandwidthGBps,
    bubbleFraction,
    layout,
  };
}

/** The default shrinks to what fits, since nobody asked for it. */
function defaultMaxTokens({ executor }: GeneratingModel, promptLength: number): number {
  const { maxModelLen, numBlocks, blockSize } = executor.limits;
  const room = Math.min(maxModelLen, numBlocks * blockSize + 1) - promptLength;
  return Math.max(1, Math.min(DEFAULT_MAX_TOKENS, room));
}
