/** What a run cost, by rank, since the last reset. */
import type { ModelConfig } from "../../models/config.ts";
import { bytesOf } from "../common/dtype.ts";
import type { LayoutReport } from "./engineArgs.ts";

export interface RankStats {
  readonly rank: number;
  readonly numSteps: number;
  readonly numLaunches: number;
  /** Below numSteps where steps went in bursts; more where ranks met in the middle of them. */
  readonly numSubmits: number;
  /** Host time for encoding and for submitting commands. */
  readonly encodeMs: number;
  readonly submitMs: number;
  /** Host time in collectives that later commands waited for: maps, transport, uploads. */
  readonly collectiveMs: number;
  readonly collectiveOps: number;
  /** Bytes of this rank's operations. */
  readonly collectiveBytes: number;
  readonly pipelines: number;
  readonly compileMs: number;
  /** Objects created on the device since it was opened. */
  readonly buffers: number;
  readonly bindGroups: number;
}

export interface RunStats {
  readonly ranks: readonly RankStats[];
  /** Bytes of weights that one decoded token reads, over all ranks; the bound of decode. */
  readonly bytesPerToken: number;
}

/** Weights that a decode step of one token reads: all of them but the embedding, of which it reads a row. */
export function decodeBytesPerToken(config: ModelConfig, layout: LayoutReport): number {
  const all = layout.ranks.reduce((sum, { weightBytes }) => sum + weightBytes, 0);
  const embedding = config.vocabSize * config.hiddenSize * bytesOf(layout.dtype);
  return all - embedding * layout.tpSize;
}
