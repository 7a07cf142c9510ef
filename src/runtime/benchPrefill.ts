/** Prefill speed: prompt tokens a second up to the first token, beside the adapter's operations. */
import type { ModelConfig } from "../../models/config.ts";
import { median, quantile } from "../common/math.ts";
import type { EngineArgs, LayoutReport, LoadEvents } from "./engineArgs.ts";
import { loadModel } from "./loadModel.ts";
import { type KernelTime, profileStep } from "./profileStep.ts";

export interface PrefillWorkload {
  readonly promptLength: number;
  readonly repeats: number;
}

export interface PrefillReport {
  readonly model: string;
  readonly layout: LayoutReport;
  readonly workload: PrefillWorkload;
  /** Prompt tokens over the time to first token. */
  readonly tokPerS: number;
  readonly tokPerSMin: number;
  readonly tokPerSMax: number;
  readonly ttftMs: number;
  /** Operations of the linear layers and of attention that a prompt needs, over the time: 1e12 a second. */
  readonly tflops: number;
  readonly kernels: readonly KernelTime[];
}

/** Loads the model, warms up once, then repeats prompts of one size in a single step. */
export async function benchPrefill(
  args: EngineArgs,
  workload: PrefillWorkload,
  events: LoadEvents = {},
): Promise<PrefillReport> {
  const { promptLength, repeats } = workload;
  const maxNumBatchedTokens = args.maxNumBatchedTokens ?? Math.max(promptLength, args.maxNumSeqs);
  const model = await loadModel({ ...args, maxNumBatchedTokens }, events);
  try {
    // another prompt each time, or the prefix cache would answer
    const prompt = (repeat: number): number[] =>
      Array.from(
        { length: promptLength },
        (_, i) => (104729 * i + 7919 * (repeat + 1)) % model.config.vocabSize,
      );
    const times: number[] = [];
    for (let repeat = 0; repeat <= repeats; repeat++) {
      const sampling = { temperature: 0, maxTokens: 1, ignoreEos: true };
      const { timings } = await model.llm.generate(prompt(repeat), sampling).collect();
      if (repeat > 0) times.push(timings.ttftMs ?? Number.NaN); // the first one warms up
    }
    const step = { phase: "prefill", length: promptLength, batchSize: 1 } as const;
    const kernels = await profileStep(model.executor, step);
    const ttftMs = median(times);
    return {
      model: model.layout.model,
      layout: model.layout,
      workload,
      tokPerS: (1000 * promptLength) / ttftMs,
      tokPerSMin: (1000 * promptLength) / quantile(times, 1),
      tokPerSMax: (1000 * promptLength) / quantile(times, 0),
      ttftMs,
      tflops: prefillFlops(model.config, promptLength) / (ttftMs * 1e9),
      kernels,
    };
  } finally {
    await model.shutdown();
  }
}

/** Two operations a weight of the layers and token, one lm_head row, and causal attention. */
function prefillFlops(config: ModelConfig, numTokens: number): number {
  const { hiddenSize, intermediateSize, headDim, totalNumHeads, totalNumKvHeads } = config;
  const qkv = hiddenSize * headDim * (totalNumHeads + 2 * totalNumKvHeads);
  const layer = qkv + hiddenSize * headDim * totalNumHeads + 3 * hiddenSize * intermediateSize;
  const attention = 2 * numTokens * numTokens * headDim * totalNumHeads; // q k and p v, half of each
  const perLayer = 2 * numTokens * layer + attention;
  return config.numLayers * perLayer + 2 * hiddenSize * config.vocabSize;
}
