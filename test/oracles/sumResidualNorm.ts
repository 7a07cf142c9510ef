/** residual + the sum of partials, in f64. */
export function addPartialsOracle(
  residual: ArrayLike<number>,
  partials: readonly ArrayLike<number>[],
): Float64Array {
  return Float64Array.from({ length: residual.length }, (_, i) =>
    partials.reduce((sum, partial) => sum + (partial[i] ?? 0), residual[i] ?? 0),
  );
}
