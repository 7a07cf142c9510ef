/** Everything public. Import from here; all else may change without notice. */

/** Loads a model on its devices: `const model = await loadModel({ ...DEFAULT_ENGINE_ARGS, model: dir })`. */
export { type LoadedModel, loadModel } from "./runtime/loadModel.ts";
/** What a user chooses, its defaults, and what is told while a model loads. */
export {
  DEFAULT_ENGINE_ARGS,
  type EngineArgs,
  type LayoutReport,
  type LoadEvents,
} from "./runtime/engineArgs.ts";
/** Text or token ids in, completions out: `for await (const { text } of llm.generate("Once")) …` */
export { LLM, type Prompt } from "./runtime/llm.ts";
/** One completion as it is generated, and as a whole. */
export { RequestStream } from "./runtime/requestStream.ts";
export type { Completion, RequestOutput, RequestTimings } from "./runtime/request.ts";
/** How tokens are picked: vLLM's names, ranges and meanings. */
export type { SamplingOptions, SamplingParams } from "./runtime/samplingParams.ts";
/** The adapters of this machine, and what they measure. */
export { listDevices, measureDevice } from "./runtime/devices.ts";
/** Logits of every prompt token, for any layout. */
export { computeLogits, type LogitsResult, writeLogits } from "./runtime/logits.ts";
/** A layout against one device, tap by tap. */
export { verifyLayout, type VerifyReport } from "./runtime/verify.ts";
/** Decode speed beside its bound. */
export type { BatchWorkloads } from "./runtime/bench/batches.ts";
export { benchDecode } from "./runtime/bench/decode.ts";
export type { BenchReport } from "./runtime/bench/report.ts";
/** Every error that Tandem raises on purpose. */
export * from "./common/errors.ts";
