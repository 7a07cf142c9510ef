/** Attention, norms, embedding and sampling of a model. */
import { bytesOf } from "../../common/dtype.ts";
import { ceilDiv } from "../../common/math.ts";
import { liveRows } from "../../device/liveCounts.ts";
import {
  attention,
  type AttentionArgs,
  buildPrefillTiles,
  chooseSplits,
} from "../../kernels/attention.ts";
import { embedding } from "../../kernels/embedding.ts";
import { halvesShape, takesHalves } from "../../kernels/linearMatrix.ts";
import { MAX_GEMV_CAPACITY } from "../../kernels/linearVariant.ts";
import { sampleLocal } from "../../kernels/sampling/pickToken.ts";
import { packSamplingRow, SAMPLING_ROW_WORDS } from "../../kernels/sampling/samplingRow.ts";
import { sumResidualNorm } from "../../kernels/sumResidualNorm.ts";
import type { AdapterInfo } from "../../device/device.ts";
import { type CaseMemory, capacityOf, type KernelCase, type RankSizes } from "./kernelCase.ts";

const BLOCK_SIZE = 16;
/** As the model runner's. */
const MAX_SPLITS = 32;

/** Decode attention of so many sequences, each after `context` positions. */
export function decodeAttentionCase(
  sizes: RankSizes,
  adapter: AdapterInfo,
  tokens: number,
  context: number,
): KernelCase {
  const { numHeads, numKvHeads, headDim } = sizes;
  const length = context + 1;
  const limits = { maxSplits: MAX_SPLITS, blockSize: BLOCK_SIZE };
  const request = { maxContextLength: length, numDecodeTokens: tokens, ...limits, heads: sizes };
  const splits = chooseSplits(request, adapter);
  const coldBytes = 2 * tokens * length * numKvHeads * headDim * bytesOf(sizes.kvDType);
  return {
    family: "attention",
    name: "decode",
    tokens,
    context,
    bytes: coldBytes + 2 * 4 * tokens * numHeads * headDim,
    flops: 4 * tokens * length * numHeads * headDim,
    live: liveRows(tokens, {
      numSequences: tokens,
      numDecodeTokens: tokens,
      maxContextLength: length,
      ...splits,
    }),
    coldBytes,
    prepare: (memory, numCopies) =>
      prepareAttention(memory, sizes, numCopies, {
        capacity: capacityOf(tokens),
        numSequences: tokens,
        length,
        positions: Array.from({ length: tokens }, () => context),
        prefillTiles: new Uint32Array(4),
        maxDecodeTokens: tokens,
      }),
  };
}

/** Prefill attention of one prompt. */
export function prefillAttentionCase(sizes: RankSizes, tokens: number): KernelCase {
  const { numHeads, numKvHeads, headDim } = sizes;
  const coldBytes = 2 * tokens * numKvHeads * headDim * bytesOf(sizes.kvDType);
  const prefillTiles = buildPrefillTiles([{ row: 0, firstTokenRow: 0, numTokens: tokens }]);
  return {
    family: "attention",
    name: "prefill",
    tokens,
    context: 0,
    bytes: coldBytes + 2 * 4 * tokens * numHeads * headDim,
    flops: 2 * tokens * (tokens + 1) * numHeads * headDim, // half of the pairs
    live: liveRows(tokens, { numPrefillTiles: prefillTiles.length / 4, numSamples: 1 }),
    coldBytes,
    prepare: (memory, numCopies) =>
      prepareAttention(memory, sizes, numCopies, {
        capacity: capacityOf(tokens),
        numSequences: 1,
        length: tokens,
        positions: Array.from({ length: tokens }, (_, i) => i),
        prefillTiles,
        maxDecodeTokens: 1,
      }),
  };
}

interface AttentionDraft {
  readonly capacity: number;
  readonly numSequences: number;
  /** Positions of each sequence, its last token included. */
  readonly length: number;
  readonly positions: readonly number[];
  readonly prefillTiles: Uint32Array;
  readonly maxDecodeTokens: number;
}

async function prepareAttention(
  memory: CaseMemory,
  sizes: RankSizes,
  numCopies: number,
  draft: AttentionDraft,
): ReturnType<KernelCase["prepare"]> {
  const { numHeads, numKvHeads, headDim, kvDType } = sizes;
  const { capacity, numSequences, length } = draft;
  const blocksEach = ceilDiv(length, BLOCK_SIZE);
  const numBlocks = numSequences * blocksEach;
  const padded = Array.from({ length: capacity }, (_, i) => draft.positions[i] ?? 0);
  const caches: Pick<AttentionArgs, "keyCache" | "valueCache">[] = [];
  for (let i = 0; i < numCopies; i++) {
    const shape = [numBlocks, BLOCK_SIZE, numKvHeads, headDim];
    caches.push({
      keyCache: await memory.filled(shape, kvDType),
      valueCache: await memory.filled(shape, kvDType),
    });
  }
  const blocks = Array.from({ length: numBlocks }, (_, i) => i);
  const args = {
    q: await memory.filled([capacity, numHeads * headDim]),
    kvDType,
    positions: memory.words(padded),
    sequenceIndex: memory.words(padded.map((_, i) => Math.min(i, numSequences - 1))),
    blockTables: memory.words(blocks, [numSequences, blocksEach]),
    prefillTiles: memory.words([...draft.prefillTiles], [draft.prefillTiles.length / 4, 4]),
    out: memory.empty([capacity, numHeads * headDim]),
    scale: 1 / Math.sqrt(headDim),
    slidingWindow: 0,
    numHeads,
    numKvHeads,
    headDim,
    blockSize: BLOCK_SIZE,
    maxSplits: MAX_SPLITS,
    maxDecodeTokens: draft.maxDecodeTokens,
  };
  return (rec, copy) => {
    const cache = caches[copy];
    if (cache !== undefined) attention(rec, { ...args, ...cache });
  };
}

/** Small kernels at a count of tokens: embedding, the norm of larger steps, greedy sampling. */
export function smallCases(sizes: RankSizes, tokens: number): KernelCase[] {
  const { hidden, vocab, dtype } = sizes;
  const capacity = capacityOf(tokens);
  const common = { tokens, context: null, live: liveRows(tokens), coldBytes: 0 };
  const cases: KernelCase[] = [
    {
      ...common,
      family: "embedding",
      name: "embedding",
      bytes: tokens * hidden * (bytesOf(dtype) + 4),
      flops: 0,
      prepare: async (memory) => {
        const table = await memory.weight(vocab, hidden, dtype);
        const ids = Array.from({ length: capacity }, (_, i) => (104729 * i) % vocab);
        const [tokenIds, lastToken] = [memory.words(ids), memory.words([0])];
        const out = memory.empty([capacity, hidden]);
        return (rec) => embedding(rec, { tokenIds, lastToken, table, out });
      },
    },
  ];
  if (capacity > MAX_GEMV_CAPACITY) {
    cases.push({
      ...common,
      family: "norm",
      name: "sum + residual + norm",
      bytes: 16 * tokens * hidden, // reads a partial and the residual, writes the residual and the norm
      flops: 6 * tokens * hidden,
      prepare: async (memory) => {
        const partials = {
          tensor: await memory.filled([capacity, hidden]),
          count: 1,
          strideElements: capacity * hidden,
        };
        const [residual, weight] = [
          memory.empty([capacity, hidden]),
          await memory.filled([hidden]),
        ];
        const out = takesHalves(memory.device.info, capacity, hidden)
          ? memory.empty(halvesShape(capacity, hidden), "f16")
          : memory.empty([capacity, hidden]);
        return (rec) => sumResidualNorm(rec, { partials, residual, weight, out, eps: 1e-5 });
      },
    });
  }
  return tokens <= 256 ? [...cases, samplingCase(sizes, tokens)] : cases;
}

function samplingCase({ vocab }: RankSizes, tokens: number): KernelCase {
  return {
    family: "sampling",
    name: "greedy",
    tokens,
    context: null,
    bytes: 4 * tokens * vocab,
    flops: tokens * vocab,
    live: liveRows(tokens),
    coldBytes: 0, // logits were just written
    prepare: async (memory) => {
      const rows = new Uint32Array(tokens * SAMPLING_ROW_WORDS);
      for (let slot = 0; slot < tokens; slot++) {
        packSamplingRow(rows, slot, { ...GREEDY_ROW, slot });
      }
      const logits = await memory.filled([tokens, vocab]);
      const samplingRows = memory.words([...rows], [tokens, SAMPLING_ROW_WORDS]);
      const [sampledIds, lastToken] = [
        memory.empty([tokens], "u32"),
        memory.empty([tokens], "u32"),
      ];
      return (rec) => sampleLocal(rec, { logits, samplingRows, sampledIds, lastToken });
    },
  };
}

const GREEDY_ROW = {
  position: 1,
  seed: 0,
  isGreedy: true,
  hasPenalties: false,
  isFiltered: false,
  isWide: false,
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
};
