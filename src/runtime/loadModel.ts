/** From the user's choices to a model that generates, in Node. */
import type { GenerationDefaults } from "../../models/config/generation.ts";
import type { ModelConfig } from "../../models/config.ts";
import { joinPath } from "../../models/weights/files.ts";
import { nodeFiles } from "../../models/weights/filesNode.ts";
import { Tracer } from "../common/trace.ts";
import { installFlightDump } from "../collectives/watchdog/flightDumpNode.ts";
import { NodeOpener } from "../device/openNode.ts";
import type { DeviceOpener } from "../device/opener.ts";
import { tuneRanks } from "./autotune/autotuneNode.ts";
import type { EngineArgs, LayoutReport, LoadEvents } from "./engineArgs.ts";
import { inProcessRanks } from "./executor/inProcess.ts";
import type { RankHandle } from "./executor/rankHandle.ts";
import { RankedExecutor } from "./executor/rankedExecutor.ts";
import { threadRanks } from "./executor/workerThreads.ts";
import { type ResolvedLayout, resolveLayout } from "./layout.ts";
import type { ExecutorLimits } from "./executor/executor.ts";
import { LLM, type Prompt } from "./llm.ts";
import { createRequest } from "./request.ts";
import { resolveSamplingParams, type SamplingOptions } from "./samplingParams.ts";
import { measureDevice } from "./devices.ts";
import { openModel } from "./openModelNode.ts";
import type { ModelSpec } from "./rankSpec.ts";
import type { RankEnvironment, RankHooks } from "./worker.ts";
import { noTextCodec, type TextCodec } from "./textCodec.ts";
import { loadTokenizer } from "./tokenizer.ts";
import { decodeBytesPerToken, type RunStats } from "./stats.ts";
import { type LoadTimings, rankTimings } from "./loadTimings.ts";

/** A model on its devices. */
export interface LoadedModel {
  readonly llm: LLM;
  readonly executor: RankedExecutor;
  readonly config: ModelConfig;
  readonly layout: LayoutReport;
  readonly generation: GenerationDefaults;
  readonly codec: TextCodec;
  readonly numKvBlocks: number;
  readonly loadTimings: LoadTimings;
  /** Read bandwidth of rank 0's adapter, measured now. */
  bandwidthGBps(): Promise<number>;
  /** What ran since the last reset. */
  stats(): Promise<RunStats>;
  /** Starts counting anew. */
  resetStats(): Promise<void>;
  /** Ends all ranks and frees their devices; safe to call twice. */
  shutdown(): Promise<void>;
}

/** All ranks started; what `verify` and `logits` need. */
export interface StartedRanks {
  readonly executor: RankedExecutor;
  readonly config: ModelConfig;
  readonly resolved: ResolvedLayout;
  readonly codec: TextCodec;
  readonly generation: GenerationDefaults;
  readonly loadTimings: LoadTimings;
  /** The engine's part of the profile, if there is one. */
  readonly tracer: Tracer | undefined;
}

/** Called with the limits that prompts are checked against, before any weight is read. */
export type CheckPrompt = (limits: PromptLimits, codec: TextCodec) => void;
/** Known before anything is loaded. */
export type PromptLimits = Pick<ExecutorLimits, "vocabSize" | "maxModelLen">;

/** For tests; ranks on threads of their own have only the adapters' list of the opener. */
export interface LoadHooks extends RankHooks {
  readonly opener?: DeviceOpener;
}

/** Checks everything, then loads weights and compiles on every rank. */
export async function startRanks(
  args: EngineArgs,
  events: LoadEvents = {},
  checkPrompt: CheckPrompt = () => undefined,
  hooks: LoadHooks = {},
): Promise<StartedRanks> {
  const beginMs = performance.now();
  const tracer = args.profile === null ? undefined : new Tracer("engine");
  const { spec, storedDType, generation } = await openModel(args);
  const codec = await openCodec(spec);
  tracer?.span("load", "config and tokenizer", beginMs);
  const filesMs = performance.now() - beginMs;
  const adapters = await (hooks.opener ?? new NodeOpener()).list();
  const adaptersMs = performance.now() - beginMs - filesMs;
  tracer?.span("load", "adapters", beginMs + filesMs);
  const resolved = resolveLayout(args, spec, storedDType, adapters);
  const { vocabSize } = spec.config;
  checkPrompt({ vocabSize, maxModelLen: resolved.run.maxModelLen }, codec);
  events.onLayout?.(resolved.report);
  const options = { mode: args.autotune, dtype: resolved.report.dtype };
  const specs = await tuneRanks(resolved.specs, adapters, options);
  const ranksMs = performance.now();
  const ranks = makeRanks(args, { ...resolved, specs }, events, hooks);
  const executor = await RankedExecutor.start(ranks, resolved.run, vocabSize);
  events.onReady?.(executor.kvPlan);
  const loadTimings = { beginMs, filesMs, adaptersMs, ...rankTimings(executor) };
  tracer?.span("load", "ranks", ranksMs);
  executor.beforeShutdown = async () => {
    if (tracer === undefined) return;
    await args.profile?.add([tracer.process(), ...(await executor.traces())]);
  };
  return { executor, config: spec.config, resolved, generation, codec, loadTimings, tracer };
}

/** What will be asked of the model first: checked before anything is loaded. */
export interface FirstRequest {
  readonly prompt?: Prompt;
  readonly sampling?: SamplingOptions;
}

/** Loads a model for generation. */
export async function loadModel(
  args: EngineArgs,
  events: LoadEvents = {},
  first: FirstRequest = {},
): Promise<LoadedModel> {
  const started = await startRanks(args, events, (limits, codec) => {
    checkFirst(args, first, limits, codec);
  });
  const { executor, config, resolved, generation, codec } = started;
  const llm = new LLM(executor, codec, { tracer: started.tracer, scheduler: args.scheduler });
  const layout = resolved.report;
  const bytesPerToken = decodeBytesPerToken(config, layout);
  return {
    llm,
    executor,
    config,
    layout,
    generation,
    codec,
    numKvBlocks: executor.limits.numBlocks,
    loadTimings: started.loadTimings,
    bandwidthGBps: async () =>
      (await measureDevice(layout.ranks[0]?.deviceIndex ?? 0)).readBandwidthGBps,
    stats: async () => ({ ranks: await executor.stats(), bytesPerToken }),
    resetStats: () => executor.resetStats(),
    shutdown: () => llm.shutdown(),
  };
}

function makeRanks(
  args: EngineArgs,
  { specs }: ResolvedLayout,
  { onProgress }: LoadEvents,
  hooks: LoadHooks,
): RankHandle[] {
  if (args.executor === "workerThreads") return threadRanks(specs, onProgress);
  const { opener = new NodeOpener() } = hooks;
  const watch: RankEnvironment["watch"] = (recorder, control) =>
    installFlightDump(recorder, control, { onSignal: recorder.rank === 0 });
  return inProcessRanks(specs, { opener, files: nodeFiles, onProgress, hooks, watch });
}

function checkFirst(
  { maxNumSeqs }: EngineArgs,
  { prompt, sampling }: FirstRequest,
  limits: PromptLimits,
  codec: TextCodec,
): void {
  if (prompt === undefined) return;
  const promptTokenIds = typeof prompt === "string" ? codec.encode(prompt) : prompt;
  const draft = { requestId: "first", promptTokenIds, eosTokenIds: codec.eosTokenIds };
  const unlimited = { maxNumSeqs, blockSize: 1, numBlocks: limits.maxModelLen, maxInFlight: 1 };
  createRequest(
    { ...draft, sampling: resolveSamplingParams(sampling) },
    { ...limits, ...unlimited, maxNumBatchedTokens: maxNumSeqs },
  );
}

/** Built-in shapes have no tokenizer: they take and give token ids. */
async function openCodec({ dir, config }: ModelSpec): Promise<TextCodec> {
  if (dir === null || !(await nodeFiles.exists(joinPath(dir, "tokenizer.json")))) {
    return noTextCodec(config.eosTokenIds);
  }
  return await loadTokenizer(nodeFiles, dir, config.eosTokenIds);
}
