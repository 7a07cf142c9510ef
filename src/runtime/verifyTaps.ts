/** Compares the taps of a layout's ranks with those of one device; pure arithmetic. */
import type { ModelConfig } from "../../models/config.ts";
import { ffnShard, headShard, vocabShard } from "../../models/sharding.ts";
import { type Range, sizeOf } from "../../models/weights/weightSource.ts";
import type { TapRecord } from "./executor/rankHandle.ts";
import { type RunSpec, shardRank } from "./rankSpec.ts";

/** Errors of one rank's part of a tap. */
export interface RankComparison {
  readonly rank: number;
  readonly maxAbsError: number;
  /** maxAbsError over the root mean square of the reference tap. */
  readonly maxRelError: number;
}

/** One tap over all ranks that have it. */
export interface TapComparison {
  readonly name: string;
  readonly ranks: readonly RankComparison[];
  readonly maxAbsError: number;
  readonly maxRelError: number;
  /** The tap is what a stage received from the one before. */
  readonly received: boolean;
}

/** Which columns of the reference a rank's tap holds. */
export function tapColumns(
  config: ModelConfig,
  run: Pick<RunSpec, "tpSize" | "ppSize">,
  rank: number,
  name: string,
): Range | null {
  const tpRank = rank % run.tpSize;
  if (name.endsWith(".self_attn.heads")) {
    const { begin, end } = headShard(config, run.tpSize, tpRank).heads;
    return { begin: begin * config.headDim, end: end * config.headDim };
  }
  if (name.endsWith(".mlp.activation")) return ffnShard(config, run.tpSize, tpRank);
  if (name === "logits") return vocabShard(config, run.tpSize, tpRank);
  return null; // whole on every rank
}

/** In the order of the forward pass. Where a stage received a tap, that comes after its senders' own. */
export function compareTaps(
  config: ModelConfig,
  run: RunSpec,
  reference: readonly TapRecord[],
  ranks: readonly (readonly TapRecord[])[],
): TapComparison[] {
  return reference.flatMap((expected) => {
    const rms = rootMeanSquare(expected.data);
    const found = ranks.flatMap((records, rank) => {
      const tap = records.find(({ name }) => name === expected.name);
      if (tap === undefined) return [];
      const maxAbsError = largestError(expected, tap, tapColumns(config, run, rank, tap.name));
      return [{ rank, maxAbsError, maxRelError: maxAbsError / rms }];
    });
    // A residual at a border is tapped by the stage that computed it and by the one that received it.
    const firstStage = Math.min(...found.map(({ rank }) => shardRank(rank, run).ppRank));
    const isReceiver = ({ rank }: RankComparison): boolean =>
      shardRank(rank, run).ppRank > firstStage;
    const computed = summarise(
      expected.name,
      found.filter((one) => !isReceiver(one)),
      false,
    );
    const received = summarise(expected.name, found.filter(isReceiver), true);
    return [computed, received].filter((tap) => tap.ranks.length > 0);
  });
}

function summarise(
  name: string,
  ranks: readonly RankComparison[],
  received: boolean,
): TapComparison {
  const largest = (field: "maxAbsError" | "maxRelError"): number =>
    ranks.reduce((max, one) => (one[field] <= max ? max : one[field]), 0); // NaN wins
  return {
    name,
    ranks,
    maxAbsError: largest("maxAbsError"),
    maxRelError: largest("maxRelError"),
    received,
  };
}

function rootMeanSquare(values: Float32Array): number {
  let sum = 0;
  for (const value of values) sum += value * value;
  return Math.sqrt(sum / Math.max(values.length, 1)) || 1;
}

/** Over the columns that the rank holds; its padding is not compared. NaN is Infinity. */
function largestError(expected: TapRecord, got: TapRecord, columns: Range | null): number {
  const { begin, end } = columns ?? { begin: 0, end: expected.numColumns };
  const numRows = expected.data.length / expected.numColumns;
  if (got.numColumns < sizeOf({ begin, end }) || got.data.length / got.numColumns !== numRows) {
    return Infinity;
  }
  let largest = 0;
  for (let row = 0; row < numRows; row++) {
    for (let column = begin; column < end; column++) {
      const want = expected.data[row * expected.numColumns + column] ?? Number.NaN;
      const have = got.data[row * got.numColumns + column - begin] ?? Number.NaN;
      const error = Math.abs(have - want);
      if (!(error <= largest)) largest = Number.isNaN(error) ? Infinity : error;
    }
  }
  return largest;
}
