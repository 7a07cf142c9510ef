/** The flags that several commands share: vLLM's names, each with its help and its check. */
import { type Command, Option } from "commander";
import { UsageError } from "../common/errors.ts";
import type { CollectiveArgs } from "../runtime/collectiveArgs.ts";
import { DEFAULT_ENGINE_ARGS, type EngineArgs } from "../runtime/engineArgs.ts";
import { addBatchingFlags, addCollectiveFlags, addMemoryFlags } from "./engineFlags.ts";
import { addAll, flag } from "./flag.ts";
import type { LoadedModel } from "../runtime/loadModel.ts";
import type { SchedulingPolicy } from "../runtime/schedulerLimits.ts";
import {
  type GpuSamplingParams,
  resolveSamplingParams,
  type SamplingOptions,
} from "../runtime/samplingParams.ts";
import { decimalNumber, oneOf, type ValueParser, wholeNumber, wholeNumbers } from "./values.ts";

export { flag } from "./flag.ts";

/** Flags of every command that loads a model; those not given are undefined. */
export interface ModelFlags {
  readonly model?: string;
  readonly tensorParallelSize?: number;
  readonly pipelineParallelSize?: number;
  readonly devices?: readonly number[];
  readonly executor?: EngineArgs["executor"];
  readonly dtype?: EngineArgs["dtype"];
  readonly kvCacheDtype?: EngineArgs["kvCacheDType"];
  readonly loadFormat?: EngineArgs["loadFormat"];
  readonly maxModelLen?: number;
  readonly maxNumSeqs?: number;
  readonly maxNumBatchedTokens?: number;
  readonly enablePrefixCaching?: boolean;
  readonly schedulingPolicy?: SchedulingPolicy;
  readonly maxNumPartialPrefills?: number;
  readonly longPrefillTokenThreshold?: number;
  readonly numSchedulerSteps?: number;
  readonly gpuMemoryUtilization?: number;
  readonly kvCacheMemoryMib?: number;
  readonly collectiveAlgorithm?: CollectiveArgs["algorithm"];
  readonly collectiveWireDtype?: CollectiveArgs["wire"];
  readonly collectiveWireFrom?: number;
  readonly collectiveTimeout?: number;
  readonly disableRobustness?: boolean;
  readonly autotune?: EngineArgs["autotune"];
  readonly enableDualBatchOverlap?: true;
  readonly dboDecodeTokenThreshold?: number;
  readonly profile?: string;
}

/** Flags that pick the tokens. */
export interface SamplingFlags {
  readonly maxTokens?: number;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
  readonly presencePenalty?: number;
  readonly frequencyPenalty?: number;
  readonly seed?: number;
  readonly ignoreEos?: true;
}

export interface PromptFlags {
  readonly promptIds?: readonly number[];
}

export interface JsonFlag {
  readonly json?: true;
}

const count = wholeNumber({ min: 1 });
const DTYPES = { float32: "f32", float16: "f16", bfloat16: "bf16" } as const;
const EXECUTORS = { "worker-threads": "workerThreads", "in-process": "inProcess" } as const;

/** Which ranks there are, on which devices and threads; `tpDefault` as help shows it. */
export function layoutFlags(tpDefault: string): Option[] {
  return [
    flag(
      "--tp, --tensor-parallel-size <n>",
      `ranks that share each layer (default: ${tpDefault})`,
      count,
    ),
    flag("--pp, --pipeline-parallel-size <n>", "stages of layers (default: 1)", count),
    flag(
      "--devices <list>",
      "devices of the ranks, in order and again from the first (default: all of the best kind)",
      wholeNumbers("device numbers", "0,1"),
    ),
    flag(
      "--executor <kind>",
      `workerThreads or inProcess (default: ${DEFAULT_ENGINE_ARGS.executor})`,
      oneOf(["workerThreads", "inProcess"], EXECUTORS),
    ),
  ];
}

/** Adds the flags of ModelFlags; `demoTpSize` as in engineArgs. */
export function addModelFlags(command: Command, demoTpSize = 1): Command {
  const tpDefault = demoTpSize === 1 ? "1" : `1; without --model and --pp ${demoTpSize}`;
  const ofDefaults = DEFAULT_ENGINE_ARGS;
  addAll(command, "Model:", [
    new Option("--model <dir>", "Hugging Face model directory (default: the demo model fable-5m)"),
    flag(
      "--dtype <type>",
      "weights as auto (the checkpoint's), f32, f16 or bf16",
      oneOf(["auto", "f32", "f16", "bf16"], DTYPES),
    ),
    flag(
      "--kv-cache-dtype <type>",
      "KV cache as auto, f16 or f32",
      oneOf(["auto", "f16", "f32"], { float16: "f16", float32: "f32" }),
    ),
    flag(
      "--load-format <format>",
      "auto, or dummy: pseudo-random weights, for timing",
      oneOf(["auto", "dummy"]),
    ),
    flag("--max-model-len <tokens>", "prompt and completion at most (default: the model's)", count),
  ]);
  addAll(command, "Layout:", [
    ...layoutFlags(tpDefault),
    ...overlapFlags(),
    new Option("--disable-robustness", "no bounds checks by WebGPU on hardware devices (default)"),
    new Option("--no-disable-robustness", "keep WebGPU's bounds checks"),
    flag(
      "--autotune <mode>",
      `sizes of kernels: off, cached (measured earlier) or full (measure what is missing; default: ${ofDefaults.autotune})`,
      oneOf(["off", "cached", "full"]),
    ),
  ]);
  addCollectiveFlags(command);
  addMemoryFlags(command);
  addAll(command, "Profiling:", [
    new Option("--profile <file>", "a Chrome trace of every rank: open it in ui.perfetto.dev"),
  ]);
  return addBatchingFlags(command);
}

function overlapFlags(): Option[] {
  const { dboDecodeTokenThreshold } = DEFAULT_ENGINE_ARGS;
  return [
    new Option(
      "--enable-dual-batch-overlap",
      "two micro-batches at once: one computes while the other's all-reduce travels",
    ),
    flag(
      "--dbo-decode-token-threshold <n>",
      `with it, fewer decodes stay in one batch (default: ${dboDecodeTokenThreshold})`,
      count,
    ),
  ];
}

/** The runtime holds the rule of each parameter; here it only gets the flag's name. */
function sampling(field: keyof GpuSamplingParams, parse: ValueParser<number>): ValueParser<number> {
  return (text, flagName) => {
    const value = parse(text, flagName);
    try {
      resolveSamplingParams({ [field]: value });
    } catch (error) {
      if (error instanceof UsageError) throw new UsageError(error.message.replace(field, flagName));
      throw error;
    }
    return value;
  };
}

/** Adds the flags of SamplingFlags. */
export function addSamplingFlags(command: Command, maxTokensDefault: string): Command {
  const whole = wholeNumber();
  return addAll(command, "Sampling (default: what the model's generation_config.json says):", [
    flag("--max-tokens <n>", `tokens to generate (default: ${maxTokensDefault})`, count),
    flag(
      "--temperature <x>",
      "0 is greedy; 1 leaves the probabilities as they are",
      sampling("temperature", decimalNumber),
    ),
    flag("--top-k <n>", "of the n likeliest tokens", sampling("topK", whole)),
    flag(
      "--top-p <x>",
      "of the likeliest that make up probability x",
      sampling("topP", decimalNumber),
    ),
    flag(
      "--min-p <x>",
      "of those at least x times as likely as the likeliest",
      sampling("minP", decimalNumber),
    ),
    flag(
      "--repetition-penalty <x>",
      "above 1 avoids tokens of prompt and completion",
      sampling("repetitionPenalty", decimalNumber),
    ),
    flag(
      "--presence-penalty <x>",
      "above 0 avoids tokens of the completion",
      sampling("presencePenalty", decimalNumber),
    ),
    flag(
      "--frequency-penalty <x>",
      "above 0 avoids tokens the more often the completion has them",
      sampling("frequencyPenalty", decimalNumber),
    ),
    flag("--seed <n>", "the same draws on every run", sampling("seed", whole)),
    new Option("--ignore-eos", "go on after an end-of-sequence token"),
  ]);
}

/** Adds --prompt-ids. */
export function addPromptFlags(command: Command): Command {
  const parse = wholeNumbers("token ids", "5,6,7");
  return addAll(command, "Prompt:", [
    flag("--prompt-ids <list>", "token ids in place of a text, taken as they are", parse),
  ]);
}

/** Adds --json. */
export function addJsonFlag(command: Command, description: string): Command {
  return addAll(command, "Output:", [new Option("--json", description)]);
}

/** The options of a request: a flag, else what the checkpoint recommends, else the runtime's default. */
export function samplingOptions(
  flags: SamplingFlags,
  recommended: LoadedModel["generation"],
): SamplingOptions {
  const temperature = recommended.doSample === false ? 0 : recommended.temperature;
  return {
    temperature: flags.temperature ?? temperature ?? undefined,
    topK: flags.topK ?? recommended.topK ?? undefined,
    topP: flags.topP ?? recommended.topP ?? undefined,
    minP: flags.minP ?? recommended.minP ?? undefined,
    repetitionPenalty: flags.repetitionPenalty ?? recommended.repetitionPenalty ?? undefined,
    presencePenalty: flags.presencePenalty,
    frequencyPenalty: flags.frequencyPenalty,
    seed: flags.seed,
    ignoreEos: flags.ignoreEos,
  };
}
