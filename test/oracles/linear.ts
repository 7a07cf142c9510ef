/** Linear layers in f64: y = x Wᵀ + b, and silu(gate) * up of two of them. */
export interface LinearOracleArgs {
  readonly x: ArrayLike<number>; // [numTokens, inFeatures]
  readonly weight: ArrayLike<number>; // [outFeatures, inFeatures]
  readonly bias?: ArrayLike<number>; // [outFeatures]
  readonly inFeatures: number;
  readonly outFeatures: number;
}

export function linearOracle(args: LinearOracleArgs): Float64Array {
  const { x, weight, bias, inFeatures, outFeatures } = args;
  const numTokens = x.length / inFeatures;
  return Float64Array.from({ length: numTokens * outFeatures }, (_, index) => {
    const n = index % outFeatures;
    const token = (index - n) / outFeatures;
    let sum = bias?.[n] ?? 0;
    for (let k = 0; k < inFeatures; k++) {
      sum += (x[token * inFeatures + k] ?? 0) * (weight[n * inFeatures + k] ?? 0);
    }
    return sum;
  });
}

/** The weight's first half of rows are gates, the second half ups: [numTokens, outFeatures / 2]. */
export function swigluOracle(args: LinearOracleArgs): Float64Array {
  const sums = linearOracle(args);
  const half = args.outFeatures / 2;
  return Float64Array.from({ length: sums.length / 2 }, (_, index) => {
    const at = Math.floor(index / half) * args.outFeatures + (index % half);
    const gate = sums[at] ?? 0;
    return (gate / (1 + Math.exp(-gate))) * (sums[at + half] ?? 0);
  });
}
