/** MBU and MFU of whole requests: what they had to read and compute, over the time they took. */
import {
  decodePositions,
  kvBytesPerPosition,
  sequenceFlops,
  type SequenceLengths,
} from "./bounds.ts";
import type { Fields } from "./report.ts";
import type { BenchSession } from "./session.ts";

/** Fields of a row: `gb_per_s`, `mbu_percent`, `tflops`, `mfu_percent`. */
export async function utilisation(
  { model, totalReadGBps, totalTflops }: BenchSession,
  sequences: readonly SequenceLengths[],
  elapsedMs: number,
): Promise<Fields> {
  const { config, layout } = model;
  const { ranks, bytesPerToken } = await model.stats();
  const numSteps = ranks[0]?.numSteps ?? 0;
  const sum = (value: (sequence: SequenceLengths) => number): number =>
    sequences.reduce((total, sequence) => total + value(sequence), 0);
  const kvBytes = sum(decodePositions) * kvBytesPerPosition(config, layout.kvCacheDType);
  const gbPerS = (numSteps * bytesPerToken + kvBytes) / (elapsedMs * 1e6);
  const tflops = sum((sequence) => sequenceFlops(config, sequence)) / (elapsedMs * 1e9);
  return {
    steps: numSteps,
    gb_per_s: gbPerS,
    mbu_percent: (100 * gbPerS) / totalReadGBps,
    tflops,
    mfu_percent: (100 * tflops) / totalTflops,
  };
}
