/** Attention in f64 over the paged cache: a straight softmax, one token and one head at a time. */

export interface PagedAttention {
  readonly q: ArrayLike<number>; // [numTokens, numHeads, headDim]
  readonly keyCache: ArrayLike<number>; // [numBlocks, blockSize, numKvHeads, headDim]
  readonly valueCache: ArrayLike<number>; // as keyCache
  readonly positions: readonly number[]; // [numTokens]
  readonly blocksOfToken: (token: number) => readonly number[];
  readonly scale: number;
  readonly slidingWindow: number; // 0 for none
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly blockSize: number;
}

export function attentionOracle(args: PagedAttention): Float64Array {
  const { positions, numHeads, headDim } = args;
  const out = new Float64Array(positions.length * numHeads * headDim);
  positions.forEach((position, token) => {
    for (let head = 0; head < numHeads; head++) {
      out.set(attendHead(args, token, head, position), (token * numHeads + head) * headDim);
    }
  });
  return out;
}

function attendHead(
  args: PagedAttention,
  token: number,
  head: number,
  position: number,
): Float64Array {
  const { headDim, numHeads, numKvHeads, blockSize, slidingWindow } = args;
  const kvHead = Math.floor(head / (numHeads / numKvHeads));
  const blocks = args.blocksOfToken(token);
  const query = (token * numHeads + head) * headDim;
  const rows: number[] = [];
  for (let j = 0; j <= position; j++) {
    if (slidingWindow > 0 && position - j >= slidingWindow) continue;
    const slot = (blocks[Math.floor(j / blockSize)] ?? Number.NaN) * blockSize + (j % blockSize);
    rows.push((slot * numKvHeads + kvHead) * headDim);
  }
  const scores = rows.map((row) => {
    let dot = 0;
    for (let i = 0; i < headDim; i++) dot += at(args.q, query + i) * at(args.keyCache, row + i);
    return dot * args.scale;
  });
  const top = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = scores.map((score) => Math.exp(score - top));
  const sum = weights.reduce((a, b) => a + b, 0);
  const out = new Float64Array(headDim);
  rows.forEach((row, j) => {
    const weight = (weights[j] ?? 0) / sum;
    for (let i = 0; i < headDim; i++) {
      out[i] = (out[i] ?? 0) + weight * at(args.valueCache, row + i);
    }
  });
  return out;
}

function at(values: ArrayLike<number>, index: number): number {
  return values[index] ?? Number.NaN;
}
