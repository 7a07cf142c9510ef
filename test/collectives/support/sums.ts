/** The sum in f64, and how far f32 sums may be from it. */
import { expect } from "vitest";
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
