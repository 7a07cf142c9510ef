/** From the flags of a command to what the runtime takes. */
import { join } from "node:path";
import { UsageError } from "../common/errors.ts";
import { DEFAULT_ENGINE_ARGS, type EngineArgs } from "../runtime/engineArgs.ts";
import type { Prompt } from "../runtime/llm.ts";
import type { SchedulerOptions } from "../runtime/schedulerLimits.ts";
import { TraceFile } from "../runtime/trace/traceFileNode.ts";
import type { ModelFlags, PromptFlags } from "./flags.ts";
import { repositoryFolder } from "./launcher/dependencies.ts";

/** The checkpoint that ships with the project. */
export const DEMO_MODEL = join(repositoryFolder, "models/checkpoints/fable-5m");
/** Ranks of the demo where nobody asks for a layout: the first thing to see is a sharded model. */
export const DEMO_TP_SIZE = 2;

/** `demoTpSize` is used where neither a model nor a layout is named. */
export function engineArgs(flags: ModelFlags, demoTpSize = 1): EngineArgs {
  const defaults = DEFAULT_ENGINE_ARGS;
  const { model, tensorParallelSize: tpSize, pipelineParallelSize: ppSize } = flags;
  const isDemo = model === undefined && tpSize === undefined && ppSize === undefined;
  const { collectiveTimeout } = flags;
  return {
    model: model ?? DEMO_MODEL,
    loadFormat: flags.loadFormat ?? defaults.loadFormat,
    dtype: flags.dtype ?? defaults.dtype,
    kvCacheDType: flags.kvCacheDtype ?? defaults.kvCacheDType,
    tpSize: tpSize ?? (isDemo ? demoTpSize : defaults.tpSize),
    ppSize: ppSize ?? defaults.ppSize,
    devices: flags.devices ?? defaults.devices,
    executor: flags.executor ?? defaults.executor,
    maxModelLen: flags.maxModelLen ?? defaults.maxModelLen,
    maxNumSeqs: flags.maxNumSeqs ?? defaults.maxNumSeqs,
    maxNumBatchedTokens: flags.maxNumBatchedTokens ?? defaults.maxNumBatchedTokens,
    gpuMemoryUtilization: flags.gpuMemoryUtilization ?? defaults.gpuMemoryUtilization,
    kvCacheMemoryMiB: flags.kvCacheMemoryMib ?? defaults.kvCacheMemoryMiB,
    otherCopies: defaults.otherCopies,
    scheduler: schedulerOptions(flags),
    numSchedulerSteps: flags.numSchedulerSteps ?? defaults.numSchedulerSteps,
    collectiveTimeoutMs:
      collectiveTimeout === undefined ? defaults.collectiveTimeoutMs : collectiveTimeout * 1000,
    collectives: {
      algorithm: flags.collectiveAlgorithm ?? defaults.collectives.algorithm,
      wire: flags.collectiveWireDtype ?? defaults.collectives.wire,
      wireFromBytes: flags.collectiveWireFrom ?? defaults.collectives.wireFromBytes,
    },
    enableDualBatchOverlap: flags.enableDualBatchOverlap ?? defaults.enableDualBatchOverlap,
    dboDecodeTokenThreshold: flags.dboDecodeTokenThreshold ?? defaults.dboDecodeTokenThreshold,
    simulatedLink: defaults.simulatedLink,
    disableRobustness: flags.disableRobustness ?? defaults.disableRobustness,
    autotune: flags.autotune ?? defaults.autotune,
    profile: flags.profile === undefined ? null : new TraceFile(flags.profile),
  };
}

function schedulerOptions(flags: ModelFlags): SchedulerOptions {
  const { enablePrefixCaching, schedulingPolicy } = flags;
  const { maxNumPartialPrefills, longPrefillTokenThreshold } = flags;
  const given = { enablePrefixCaching, schedulingPolicy };
  return { ...given, maxNumPartialPrefills, longPrefillTokenThreshold };
}

/** The one prompt that a command was given, as text or as --prompt-ids; undefined where none was. */
export function givenPrompt(text: string | undefined, flags: PromptFlags): Prompt | undefined {
  if (text !== undefined && flags.promptIds !== undefined) {
    throw new UsageError({
      what: "prompt",
      expected: "a text or --prompt-ids",
      got: "both",
      remedy: "leave one out",
    });
  }
  return flags.promptIds ?? text;
}

/** The prompt of a command that cannot do without one. */
export function requiredPrompt(text: string | undefined, flags: PromptFlags): Prompt {
  const prompt = givenPrompt(text, flags);
  if (prompt !== undefined) return prompt;
  throw new UsageError({
    what: "prompt",
    expected: "a text or --prompt-ids",
    got: "neither",
    remedy: 'for example: node run.ts "Once upon a time"',
  });
}
