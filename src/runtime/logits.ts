/** Logits of every prompt token for a layout, so that anyone can compare them with anything. */
import { writeFileAtomic } from "../../models/weights/filesNode.ts";
import { f32Tensor, writeSafetensors } from "../../models/weights/safetensors.ts";
import { checkPromptIds } from "./request.ts";
import type { EngineArgs, LayoutReport, LoadEvents } from "./engineArgs.ts";
import type { RankedExecutor } from "./executor/rankedExecutor.ts";
import { type PromptLimits, startRanks } from "./loadModel.ts";
import { samplingRank } from "./rankSpec.ts";

export interface LogitsResult {
  readonly logits: Float32Array<ArrayBuffer>; // [numTokens, vocabSize]
  readonly shape: readonly [numTokens: number, vocabSize: number];
  readonly layout: LayoutReport;
}

/** The KV cache is f32 unless a dtype is given. */
export async function computeLogits(
  args: EngineArgs,
  promptIds: readonly number[],
  events: LoadEvents = {},
): Promise<LogitsResult> {
  const kvCacheDType = args.kvCacheDType === "auto" ? "f32" : args.kvCacheDType;
  const check = (limits: PromptLimits): void => {
    checkPromptIds(promptIds, limits);
  };
  const { executor, config, resolved } = await startRanks({ ...args, kvCacheDType }, events, check);
  try {
    const logits = await gatherLogits(executor, promptIds, resolved.run);
    return { logits, shape: [promptIds.length, config.vocabSize], layout: resolved.report };
  } finally {
    await executor.shutdown();
  }
}

/** Joins the vocabulary slices of the last stage's ranks: [numTokens, vocabSize]. */
export async function gatherLogits(
  executor: RankedExecutor,
  promptIds: readonly number[],
  layout: { readonly tpSize: number; readonly ppSize: number },
): Promise<Float32Array<ArrayBuffer>> {
  const taps = await executor.forwardTaps(promptIds, ["logits"]);
  const slices = taps.slice(samplingRank(layout)).flatMap((records) => records);
  const vocabSize = slices.reduce((sum, { numColumns }) => sum + numColumns, 0);
  const logits = new Float32Array(promptIds.length * vocabSize);
  let column = 0;
  for (const { numColumns, data } of slices) {
    for (let row = 0; row < promptIds.length; row++) {
      const slice = data.subarray(row * numColumns, (row + 1) * numColumns);
      logits.set(slice, row * vocabSize + column);
    }
    column += numColumns;
  }
  return logits;
}

/** Writes `logits` [numTokens, vocab] f32; the file appears whole or not at all. */
export async function writeLogits(path: string, { logits, shape }: LogitsResult): Promise<void> {
  await writeFileAtomic(path, writeSafetensors({ logits: f32Tensor(logits, shape) }));
}
