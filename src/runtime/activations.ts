/**
 * What a rank allocates besides weights and KV cache, estimated before it records anything: the KV cache has
 * to be sized first, since recordings bind it. Once to twice what is allocated then.
 */
import type { ModelConfig } from "../../models/config.ts";
import { ffnShard, headShard, vocabShard } from "../../models/sharding.ts";
import { sizeOf } from "../../models/weights/weightSource.ts";
import { type RunSpec, shardRank } from "./rankSpec.ts";

const F32 = 4;
/** f32 of one (split, head) pair of decode attention besides its values. */
const PARTIAL_WORDS = 4;
/** Splits of decode attention that get scratch, on average over the batch. */
const SPLITS = 8;

/** Rows of f32 that an all-reduce keeps of each token: the partials; with a narrower wire its own and what travels. */
function sumRows({ tpSize, collectives }: RunSpec): number {
  const isNarrow = tpSize > 1 && collectives.wire !== "f32";
  return tpSize + (isNarrow ? 1 + tpSize / 2 : 0);
}

/** Bytes of one rank, whose lists hold `tokenClasses` tokens. */
export function estimateActivations(
  config: ModelConfig,
  run: RunSpec,
  rank: number,
  tokenClasses: readonly number[],
): number {
  const { tpRank, ppRank } = shardRank(rank, run);
  const { heads, kvHeads } = headShard(config, run.tpSize, tpRank);
  const { paddedSize } = ffnShard(config, run.tpSize, tpRank);
  const isLast = ppRank === run.ppSize - 1;
  const numVocab = isLast ? sizeOf(vocabShard(config, run.tpSize, tpRank)) : 0;
  const { headDim, hiddenSize } = config;
  const attention = (4 * sizeOf(heads) + 2 * sizeOf(kvHeads)) * headDim;
  const tokenWords = (3 + sumRows(run)) * hiddenSize + attention + 2 * paddedSize;
  const perList = tokenClasses.map((capacity) => {
    const samples = Math.min(capacity, run.maxNumSeqs);
    const partials = samples * SPLITS * sizeOf(heads) * (headDim + PARTIAL_WORDS);
    const gathered = isLast && run.tpSize > 1 && tpRank === 0 ? config.vocabSize : 0;
    return capacity * tokenWords + partials + samples * (2 * hiddenSize + numVocab + gathered);
  });
  const ropeTable = run.maxModelLen * headDim;
  const tables = run.maxNumSeqs * numVocab + ropeTable; // token counts of penalties, cos and sin
  return (perList.reduce((sum, words) => sum + words, 0) + tables) * F32;
}
