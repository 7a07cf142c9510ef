/** Inputs whose results every rank can tell in closed form, exact in f32 (sums stay below 2^24). */

const PERIOD = 251; // a prime: a chunk in the wrong place does not look right

/** Element `index` of what `rank` gives. */
export function inputAt(index: number, rank: number): number {
  return (index % PERIOD) + rank;
}

/** Element `index` of the sum over all ranks. */
export function sumAt(index: number, worldSize: number): number {
  return worldSize * (index % PERIOD) + (worldSize * (worldSize - 1)) / 2;
}

/** x[i] = inputAt(begin + i, rank) */
export function fillInput(x: Float32Array, rank: number, begin = 0): void {
  for (let i = 0; i < x.length; i++) x[i] = inputAt(begin + i, rank);
}

/** How many elements differ from `expected(i)`. */
export function countWrong(x: Float32Array, expected: (index: number) => number): number {
  let wrong = 0;
  for (let i = 0; i < x.length; i++) if (x[i] !== expected(i)) wrong += 1;
  return wrong;
}
