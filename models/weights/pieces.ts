/**
 * A storage binding ends at maxStorageBufferBindingSize (128 MiB on lavapipe), so a large matrix is
 * cut into pieces of rows, each a tensor of its own. gate and up rows that belong together stay in
 * one piece, since one launch multiplies them.
 */
import { WeightsError } from "../../src/common/errors.ts";
import type { TargetPart, TargetTensor } from "./plan.ts";
import type { Range } from "./weightSource.ts";

/** A run of the target's rows inside a piece. */
interface Run {
  /** Rows of the target. */
  readonly begin: number;
  readonly end: number;
  /** The piece's row that `begin` becomes. */
  readonly pieceRow: number;
}

export interface Piece {
  readonly numRows: number;
  /** First output feature of this piece in the layer's output. */
  readonly outOffset: number;
  readonly runs: readonly Run[];
}

/** Source rows that go into a piece. */
export interface PieceRange {
  readonly part: TargetPart;
  readonly rows: Range;
  readonly pieceRow: number;
}

/** Pieces of at most `maxRows` rows. */
export function splitTarget(target: TargetTensor, maxRows: number): Piece[] {
  const [numRows = 0] = target.shape;
  const isGateUp = target.name.endsWith("gate_up_proj.weight");
  const numOutputs = isGateUp ? numRows / 2 : numRows;
  const maxOutputs = isGateUp ? Math.floor(maxRows / 2) : maxRows;
  if (maxOutputs < 1) {
    throw new WeightsError({
      what: target.name,
      expected: "rows that fit a storage binding of this device",
      got: `rows of ${target.shape[1] ?? 0} elements`,
      remedy: "use more tensor-parallel ranks or another device",
    });
  }
  const pieces: Piece[] = [];
  for (let begin = 0; begin < numOutputs; begin += maxOutputs) {
    const end = Math.min(numOutputs, begin + maxOutputs);
    const runs: Run[] = [{ begin, end, pieceRow: 0 }];
    if (isGateUp) {
      runs.push({ begin: numOutputs + begin, end: numOutputs + end, pieceRow: end - begin });
    }
    pieces.push({ numRows: (end - begin) * runs.length, outOffset: begin, runs });
  }
  return pieces;
}

/** Which rows of which parts fill a piece; rows that no part covers stay zero. */
export function pieceRanges(target: TargetTensor, piece: Piece): PieceRange[] {
  return piece.runs.flatMap((run) =>
    target.parts.flatMap((part): PieceRange[] => {
      const partEnd = part.destinationRow + part.rows.end - part.rows.begin;
      const begin = Math.max(run.begin, part.destinationRow);
      const end = Math.min(run.end, partEnd);
      if (begin >= end) return [];
      const shift = part.rows.begin - part.destinationRow;
      return [
        {
          part,
          rows: { begin: begin + shift, end: end + shift },
          pieceRow: run.pieceRow + begin - run.begin,
        },
      ];
    }),
  );
}
