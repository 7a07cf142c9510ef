/** The sum in f64, and how far f32 sums may be from it. */
import { expect } from "vitest";
import type { WireFormat } from "../../../src/collectives/wire.ts";
import { randomFloats } from "./data.ts";
import { ranksOf } from "./worlds.ts";

/**
 * Of randomFloats(length, seed + rank) over the ranks: sums, and the bound of an f32 sum in any order
 * (Higham 2002, eq. 4.4).
 */
export function sumOracle(worldSize: number, length: number, seed: number): [number[], number[]] {
  const inputs = ranksOf(worldSize).map((rank) => randomFloats(length, seed + rank));
  const at = (i: number): number[] => inputs.map((x) => x[i] ?? Number.NaN);
  const sums = Array.from({ length }, (_, i) => at(i).reduce((sum, value) => sum + value, 0));
  const bounds = Array.from({ length }, (_, i) => {
    const magnitude = at(i).reduce((sum, value) => sum + Math.abs(value), 0);
    return 1.01 * (worldSize - 1) * 2 ** -24 * magnitude;
  });
  return [sums, bounds];
}

export function expectSums(
  got: Float32Array,
  begin: number,
  sums: readonly number[],
  bounds: readonly number[],
): void {
  const wrong = got.findIndex(
    (value, i) => !(Math.abs(value - (sums[begin + i] ?? 0)) <= (bounds[begin + i] ?? 0)),
  );
  if (wrong < 0) return;
  const [value, sum, bound] = [got[wrong], sums[begin + wrong], bounds[begin + wrong]];
  expect.fail(`element ${wrong} of ${got.length}: got ${value}, want ${sum} within ${bound}`);
}

/** Relative error of one rounding, absolute error of it near zero, and error as a share of the block's largest. */
const ROUNDING: Readonly<Record<WireFormat, readonly [number, number, number]>> = {
  f32: [0, 0, 0],
  f16: [2 ** -11, 2 ** -25, 0],
  bf16: [2 ** -8, 2 ** -134, 0],
  q8: [0, 2 ** -126, 1 / 254],
};

/**
 * "" when `got` is the sum of the inputs, from element `begin` on, within the bound of the wire; else
 * the first element that is not. A partial sum is rounded at most once a rank and once at the end.
 */
export function reduceBound(
  got: Float32Array,
  begin: number,
  inputs: readonly Float32Array[],
  wire: WireFormat,
): string {
  const numRanks = inputs.length;
  const [relative, absolute, ofLargest] = ROUNDING[wire];
  const numRoundings = numRanks === 1 ? 0 : numRanks + 1;
  let largest = 0;
  for (let i = 0; ofLargest > 0 && i < (inputs[0]?.length ?? 0); i++) {
    largest = Math.max(
      largest,
      inputs.reduce((sum, x) => sum + Math.abs(x[i] ?? 0), 0),
    );
  }
  for (let i = 0; i < got.length; i++) {
    let [sum, magnitude] = [0, 0];
    for (const x of inputs) {
      const value = x[begin + i] ?? Number.NaN;
      sum += value;
      magnitude += Math.abs(value);
    }
    // 1.2: roundings of values that are rounded already
    const wireError = 1.2 * numRoundings * (relative * magnitude + ofLargest * largest + absolute);
    const bound = 1.01 * (numRanks - 1) * 2 ** -24 * magnitude + wireError;
    const error = Math.abs((got[i] ?? Number.NaN) - sum);
    if (!(error <= bound))
      return `element ${begin + i}: got ${got[i]}, want ${sum} within ${bound}`;
  }
  return "";
}
