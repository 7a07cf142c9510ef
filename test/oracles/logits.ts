/** The end of a decoder in f64: RMSNorm of the residual, then lm_head. */

export interface LogitsOracle {
  readonly residual: ArrayLike<number>; // [numTokens, hidden]
  readonly normWeight: ArrayLike<number>; // [hidden]
  readonly lmHead: ArrayLike<number>; // [vocab, hidden]
  readonly eps: number;
}

/** [numTokens, vocab] */
export function logitsOracle({ residual, normWeight, lmHead, eps }: LogitsOracle): Float64Array {
  const hidden = normWeight.length;
  const [numTokens, vocab] = [residual.length / hidden, lmHead.length / hidden];
  const logits = new Float64Array(numTokens * vocab);
  const normed = new Float64Array(hidden);
  for (let token = 0; token < numTokens; token++) {
    let sum = 0;
    for (let i = 0; i < hidden; i++) sum += (residual[token * hidden + i] ?? 0) ** 2;
    const scale = 1 / Math.sqrt(sum / hidden + eps);
    for (let i = 0; i < hidden; i++) {
      normed[i] = (residual[token * hidden + i] ?? 0) * scale * (normWeight[i] ?? 0);
    }
    for (let row = 0; row < vocab; row++) {
      let dot = 0;
      for (let i = 0; i < hidden; i++) dot += (normed[i] ?? 0) * (lmHead[row * hidden + i] ?? 0);
      logits[token * vocab + row] = dot;
    }
  }
  return logits;
}
