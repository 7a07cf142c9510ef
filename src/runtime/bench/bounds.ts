/** What a workload must read and compute at the least: pure arithmetic over the model's sizes. */
import type { ModelConfig } from "../../../models/config.ts";
import type { KvCacheDType } from "../../../models/layers/context.ts";

const KV_BYTES: Readonly<Record<KvCacheDType, number>> = { f32: 4, f16: 2 };

/** Bytes of keys and values that one token of context takes, over all layers and ranks. */
export function kvBytesPerPosition(config: ModelConfig, dtype: KvCacheDType): number {
  return 2 * config.numLayers * config.totalNumKvHeads * config.headDim * KV_BYTES[dtype];
}

/** Operations of the layers' linear weights for one token: two a weight. */
export function layerFlops(config: ModelConfig): number {
  const { hiddenSize, intermediateSize, headDim, totalNumHeads, totalNumKvHeads } = config;
  const qkv = hiddenSize * headDim * (totalNumHeads + 2 * totalNumKvHeads);
  const layer = qkv + hiddenSize * headDim * totalNumHeads + 3 * hiddenSize * intermediateSize;
  return 2 * config.numLayers * layer;
}

/** Operations of lm_head for one sampled row. */
export function headFlops({ hiddenSize, vocabSize }: ModelConfig): number {
  return 2 * hiddenSize * vocabSize;
}

/** Operations of attention (q k and p v) for tokens at positions begin to end, end not included. */
export function attentionFlops(config: ModelConfig, begin: number, end: number): number {
  const pairs = (end * (end + 1) - begin * (begin + 1)) / 2;
  return 4 * config.numLayers * config.headDim * config.totalNumHeads * pairs;
}

/** One sequence of a workload. */
export interface SequenceLengths {
  readonly promptLength: number;
  /** Tokens generated; the first is prefill's. */
  readonly outputLength: number;
}

/** Operations of whole sequences: prompt and completion, one row of lm_head a generated token. */
export function sequenceFlops(config: ModelConfig, sequence: SequenceLengths): number {
  const { promptLength, outputLength } = sequence;
  const numTokens = promptLength + outputLength - 1; // the last one generated is never fed
  return (
    numTokens * layerFlops(config) +
    attentionFlops(config, 0, numTokens) +
    outputLength * headFlops(config)
  );
}

/** Operations of the prefill of one prompt. */
export function prefillFlops(config: ModelConfig, promptLength: number): number {
  return sequenceFlops(config, { promptLength, outputLength: 1 });
}

/** Operations of the tokens after the first. */
export function decodeFlops(config: ModelConfig, sequence: SequenceLengths): number {
  return sequenceFlops(config, sequence) - prefillFlops(config, sequence.promptLength);
}

/** Positions of the KV cache that the decode of one sequence reads, over all its steps. */
export function decodePositions({ promptLength, outputLength }: SequenceLengths): number {
  const steps = outputLength - 1;
  return steps * promptLength + (steps * (steps + 1)) / 2;
}
