/**
 * Who holds what: pure functions from a model's sizes and a rank to its part of the heads, the
 * FFN, the vocabulary and the layers. No size has to divide evenly.
 *
 * Parts are contiguous and in rank order, so that concatenated over ranks they are the whole.
 */
import { ShardingError } from "../src/common/errors.ts";
import { ceilDiv, roundUp } from "../src/common/math.ts";
import type { ModelConfig } from "./config.ts";
import { type Range, sizeOf } from "./weights/weightSource.ts";

/** How the model is cut; world rank = ppRank * tpSize + tpRank. */
export interface Layout {
  readonly tpSize: number;
  readonly ppSize: number;
  /** Relative speed of each tp rank; equal parts when left out. */
  readonly tensorSplit?: readonly number[];
}

/** A rank's place in a Layout. */
export interface ShardRank {
  readonly tpRank: number;
  readonly ppRank: number;
}

/** A rank's query heads, and the KV heads that they attend to. */
export interface HeadShard {
  readonly heads: Range;
  readonly kvHeads: Range;
}

/** A rank's part of the intermediate size; weights are padded with zeros to paddedSize. */
export interface FfnShard extends Range {
  readonly paddedSize: number;
}

/** The intermediate size is cut at multiples of this, so that rows stay aligned for vector loads. */
export const FFN_UNIT = 8;

/** Part `rank` of `total`, cut at multiples of `unit`: sizes differ by at most one unit, larger
 * parts first; the last unit may be partial. Some parts are empty when there are fewer units. */
export function splitEven(total: number, parts: number, rank: number, unit = 1): Range {
  const numUnits = ceilDiv(total, unit);
  const base = Math.floor(numUnits / parts);
  const numLarger = numUnits % parts;
  const begin = rank * base + Math.min(rank, numLarger);
  const end = begin + base + (rank < numLarger ? 1 : 0);
  return { begin: Math.min(begin * unit, total), end: Math.min(end * unit, total) };
}

/**
 * Part `rank` when parts should be proportional to `weights`, by the largest-remainder method, but
 * at least one unit each. Equal weights give splitEven's parts.
 */
export function splitByWeight(
  total: number,
  weights: readonly number[],
  rank: number,
  unit = 1,
): Range {
  const numUnits = ceilDiv(total, unit);
  const sum = weights.reduce((a, b) => a + b, 0);
  const shares = weights.map((weight) => (numUnits * weight) / sum);
  const counts = shares.map(Math.floor);
  // a share's remainder; the epsilon lets shares that are equal but for rounding tie, by rank
  const remainder = (part: number): number =>
    Math.round(((shares[part] ?? 0) - (counts[part] ?? 0)) * 1e9);
  const order = counts.map((_, part) => part).sort((a, b) => remainder(b) - remainder(a));
  const numLeft = numUnits - counts.reduce((a, b) => a + b, 0);
  for (const part of order.slice(0, numLeft)) counts[part] = (counts[part] ?? 0) + 1;
  for (let empty = counts.indexOf(0); empty >= 0; empty = counts.indexOf(0)) {
    const largest = Math.max(...counts);
    if (largest <= 1) break;
    counts[counts.lastIndexOf(largest)] = largest - 1;
    counts[empty] = 1;
  }
  const begin = counts.slice(0, rank).reduce((a, b) => a + b, 0);
  const end = begin + (counts[rank] ?? 0);
  return { begin: Math.min(begin * unit, total), end: Math.min(end * unit, total) };
}

function split(
  total: number,
  parts: number,
  rank: number,
  unit: number,
  weights?: readonly number[],
): Range {
  return weights === undefined
    ? splitEven(total, parts, rank, unit)
    : splitByWeight(total, weights, rank, unit);
}

/**
 * Up to tpSize = totalNumKvHeads a rank holds whole KV heads and all query heads of their groups.
 * Above, ranks are dealt to KV heads: each holds one KV head, that others hold too, and a part of
 * its group's query heads. Either way numHeads is a multiple of numKvHeads on every rank.
 */
export function headShard(
  config: Pick<ModelConfig, "totalNumHeads" | "totalNumKvHeads">,
  tpSize: number,
  tpRank: number,
  tensorSplit?: readonly number[],
): HeadShard {
  const { totalNumHeads, totalNumKvHeads } = config;
  const groupSize = totalNumHeads / totalNumKvHeads;
  if (tpSize <= totalNumKvHeads) {
    const kvHeads = split(totalNumKvHeads, tpSize, tpRank, 1, tensorSplit);
    return {
      heads: { begin: kvHeads.begin * groupSize, end: kvHeads.end * groupSize },
      kvHeads,
    };
  }
  checkAtMost("tpSize", tpSize, totalNumHeads, "query heads");
  const kvHead = Array.from({ length: totalNumKvHeads }, (_, head) => head).findIndex(
    (head) => tpRank < splitEven(tpSize, totalNumKvHeads, head).end,
  );
  const ranks = splitEven(tpSize, totalNumKvHeads, kvHead);
  const weights = tensorSplit?.slice(ranks.begin, ranks.end);
  const part = split(groupSize, sizeOf(ranks), tpRank - ranks.begin, 1, weights);
  const first = kvHead * groupSize;
  return {
    heads: { begin: first + part.begin, end: first + part.end },
    kvHeads: { begin: kvHead, end: kvHead + 1 },
  };
}

/** Columns of the FFN: rows of gate and up, columns of down. */
export function ffnShard(
  config: Pick<ModelConfig, "intermediateSize">,
  tpSize: number,
  tpRank: number,
  tensorSplit?: readonly number[],
): FfnShard {
  const range = split(config.intermediateSize, tpSize, tpRank, FFN_UNIT, tensorSplit);
  return { ...range, paddedSize: roundUp(sizeOf(range), FFN_UNIT) };
}

/** Rows of lm_head. */
export function vocabShard(
  config: Pick<ModelConfig, "vocabSize">,
  tpSize: number,
  tpRank: number,
  tensorSplit?: readonly number[],
): Range {
  return split(config.vocabSize, tpSize, tpRank, 1, tensorSplit);
}

/** A stage's layers. */
export function layerRange(numLayers: number, ppSize: number, ppRank: number): Range {
  return splitEven(numLayers, ppSize, ppRank);
}

/** The sizes that a layout is checked against. */
export type ShardedSizes = Pick<
  ModelConfig,
  "totalNumHeads" | "totalNumKvHeads" | "intermediateSize" | "vocabSize" | "numLayers"
>;

/** The largest tpSize at which every rank has a query head, an FFN unit and a row of lm_head. */
export function maxTpSize(config: ShardedSizes): number {
  return Math.min(
    config.totalNumHeads,
    ceilDiv(config.intermediateSize, FFN_UNIT),
    config.vocabSize,
  );
}

/** Throws ShardingError, with the sizes that work, unless every rank gets something of everything. */
export function checkLayout(config: ShardedSizes, layout: Layout): void {
  const { tpSize, ppSize, tensorSplit } = layout;
  checkCount("tpSize", tpSize);
  checkCount("ppSize", ppSize);
  const limit = maxTpSize(config);
  const limits: readonly [number, string][] = [
    [config.totalNumHeads, "query heads"],
    [ceilDiv(config.intermediateSize, FFN_UNIT), `FFN units of ${FFN_UNIT} columns`],
    [config.vocabSize, "vocabulary rows"],
  ];
  for (const [size, things] of limits) checkAtMost("tpSize", tpSize, size, things, limit);
  checkAtMost("ppSize", ppSize, config.numLayers, "layers");
  if (tensorSplit !== undefined) checkTensorSplit(tensorSplit, tpSize);
}

function checkCount(name: string, count: number): void {
  if (Number.isSafeInteger(count) && count >= 1) return;
  throw new ShardingError({ what: name, expected: "a whole number of at least 1", got: count });
}

function checkAtMost(name: string, size: number, has: number, things: string, limit = has): void {
  if (size <= has) return;
  throw new ShardingError({
    what: name,
    expected: `at most ${has}, as the model has ${has} ${things}`,
    got: size,
    remedy: limit === 1 ? `use a ${name} of 1` : `use a ${name} of 1 to ${limit}`,
  });
}

function checkTensorSplit(weights: readonly number[], tpSize: number): void {
  if (weights.length === tpSize && weights.every((w) => Number.isFinite(w) && w > 0)) return;
  throw new ShardingError({
    what: "tensorSplit",
    expected: `${tpSize} numbers above 0, one a tp rank`,
    got: weights.join(","),
  });
}
