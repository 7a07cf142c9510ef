/** RMSNorm in f64: y = w * x / sqrt(mean(x^2) + eps), row by row. */
export function rmsNormOracle(
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  eps: number,
): Float64Array {
  const hidden = weight.length;
  return Float64Array.from({ length: x.length }, (_, index) => {
    const row = Math.floor(index / hidden) * hidden;
    let sumSq = 0;
    for (let j = row; j < row + hidden; j++) sumSq += (x[j] ?? 0) ** 2;
    const scale = 1 / Math.sqrt(sumSq / hidden + eps);
    return (weight[index - row] ?? 0) * (x[index] ?? 0) * scale;
  });
}
