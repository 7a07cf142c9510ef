/**
 * Sampling in f64, by sorting whole rows. Follows the words of vLLM's sampler, not our kernels:
 * penalties, temperature, min-p, top-k, top-p over what is left, draw.
 */

/** What one row asks for. Numbers are taken as the f32 that the GPU gets. */
export interface OracleRow {
  readonly seed: number;
  readonly position: number;
  readonly isGreedy: boolean;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
}

/** A token, and how far the decision is from another one: skip comparisons under about 1e-5. */
export interface OracleToken {
  readonly tokenId: number;
  readonly margin: number;
  readonly numKept: number;
}

const low32 = 0xffffffffn;

/** Philox4x32-10 (Salmon et al. 2011) by 64-bit products. */
export function philox(counter: readonly number[], key: readonly number[]): number[] {
  let [c0 = 0n, c1 = 0n, c2 = 0n, c3 = 0n] = counter.map(BigInt);
  let [k0 = 0n, k1 = 0n] = key.map(BigInt);
  for (let round = 0; round < 10; round++) {
    const [p0, p1] = [0xd2511f53n * c0, 0xcd9e8d57n * c2];
    [c0, c1, c2, c3] = [(p1 >> 32n) ^ c1 ^ k0, p1 & low32, (p0 >> 32n) ^ c3 ^ k1, p0 & low32];
    [k0, k1] = [(k0 + 0x9e3779b9n) & low32, (k1 + 0xbb67ae85n) & low32];
  }
  return [c0, c1, c2, c3].map(Number);
}

/** Noise words of tokens 0 .. vocab - 1. */
export function noiseWords(seed: number, position: number, vocab: number): number[] {
  const quads = Array.from({ length: Math.ceil(vocab / 4) }, (_, quad) =>
    philox([quad, position, 0, 0], [seed, 0]),
  );
  return quads.flat().slice(0, vocab);
}

/** -log(-log(1 - u)), u = (word + 1/2) / 2^32. */
export function gumbel(word: number): number {
  return -Math.log(-Math.log1p(-(word + 0.5) / 2 ** 32));
}

/** Token ids in the order (logit descending, id ascending); NaN counts as -inf. */
export function sortedIds(logits: ArrayLike<number>): number[] {
  const value = (id: number): number => {
    const logit = logits[id] ?? Number.NaN;
    return Number.isNaN(logit) ? -Infinity : logit;
  };
  return Array.from({ length: logits.length }, (_, id) => id).sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    return x === y ? a - b : y - x;
  });
}

/** Probabilities relative to the likeliest token, in the order of `ids`. */
export function relativeWeights(
  logits: ArrayLike<number>,
  ids: readonly number[],
  temperature: number,
): number[] {
  const top = logits[ids[0] ?? 0] ?? 0;
  const divisor = Math.fround(temperature);
  return ids.map((id) => {
    const logit = logits[id] ?? -Infinity;
    if (Number.isNaN(logit) || logit === -Infinity) return 0;
    return logit === top ? 1 : Math.exp((logit - top) / divisor);
  });
}

/** How many of the sorted tokens the filters keep, and how close that was. */
function keep(weights: readonly number[], row: OracleRow): { numKept: number; margin: number } {
  const [topP, minP] = [Math.fround(row.topP), Math.fround(row.minP)];
  const passing = minP > 0 ? weights.filter((weight) => weight >= minP).length : weights.length;
  const limit = Math.min(Math.max(passing, 1), row.topK > 0 ? row.topK : Infinity);
  // a weight equal to the largest is exactly 1 on the GPU too, so it is no near-tie
  const gaps = minP > 0 ? weights.map((w) => (w === 1 ? 1 : Math.abs(w - minP) / minP)) : [1];
  let margin = gaps.reduce((least, gap) => Math.min(least, gap), Infinity);
  if (topP >= 1) return { numKept: limit, margin };
  const kept = weights.slice(0, limit);
  const total = kept.reduce((sum, weight) => sum + weight, 0);
  let mass = 0;
  for (const [i, weight] of kept.entries()) {
    margin = Math.min(margin, Math.abs(mass - topP * total) / total);
    mass += weight;
    if (mass >= topP * total || i === limit - 1) {
      return { numKept: i + 1, margin: Math.min(margin, Math.abs(mass - topP * total) / total) };
    }
  }
  return { numKept: limit, margin };
}

/** The token of one row of logits [vocab], penalties applied. */
export function sampleOracle(logits: ArrayLike<number>, row: OracleRow): OracleToken {
  const ids = sortedIds(logits);
  const first = ids[0] ?? 0;
  if (row.isGreedy) return { tokenId: first, margin: Infinity, numKept: 1 };
  const { numKept, margin } = keep(relativeWeights(logits, ids, row.temperature), row);
  const noise = noiseWords(row.seed, row.position, logits.length);
  const divisor = Math.fround(row.temperature);
  const scored = ids.slice(0, numKept).map((id) => {
    const logit = logits[id] ?? Number.NaN;
    return { id, score: logit > -Infinity ? logit / divisor + gumbel(noise[id] ?? 0) : -Infinity };
  });
  scored.sort((a, b) => (a.score === b.score ? a.id - b.id : b.score - a.score));
  const [best = { id: first, score: -Infinity }, second] = scored;
  // in units of the scores' own rounding, so that 1e-5 stays the bound when temperature is small
  const scale = Math.max(1, Math.abs(best.score) / 16);
  const gap = second === undefined ? Infinity : (best.score - second.score) / scale;
  return {
    tokenId: best.id,
    margin: Math.min(margin, Number.isNaN(gap) ? Infinity : gap),
    numKept,
  };
}

/** Penalties in vLLM's order: repetition, frequency, presence. */
export function penaltiesOracle(
  logits: ArrayLike<number>,
  prompt: readonly number[],
  completion: readonly number[],
  penalties: { readonly repetition: number; readonly frequency: number; readonly presence: number },
): Float64Array {
  const { repetition, frequency, presence } = penalties;
  return Float64Array.from({ length: logits.length }, (_, id) => {
    let logit = logits[id] ?? 0;
    const count = completion.filter((token) => token === id).length;
    if (count > 0 || prompt.includes(id))
      logit = logit > 0 ? logit / repetition : logit * repetition;
    return logit - frequency * count - (count > 0 ? presence : 0);
  });
}
