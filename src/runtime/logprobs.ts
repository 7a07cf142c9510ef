/** Log-probabilities of tokens from raw logits, in f64. */
import type { TokenLogprobs } from "./stepPlan.ts";

/** One row of logits, ready to be asked for its tokens' log-probabilities. */
export interface LogprobRow {
  readonly logits: ArrayLike<number>; // [vocab]
  /** log(sum of exp(logit)) */
  readonly logSumExp: number;
  readonly top: TokenLogprobs["top"];
}

/** numLogprobs: likeliest tokens to find. */
export function logprobRow(logits: ArrayLike<number>, numLogprobs: number): LogprobRow {
  let max = -Infinity;
  for (let id = 0; id < logits.length; id++) max = Math.max(max, logits[id] ?? max);
  let sum = 0;
  for (let id = 0; id < logits.length; id++) sum += Math.exp((logits[id] ?? 0) - max);
  const logSumExp = max + Math.log(sum);
  const top = likeliest(logits, numLogprobs).map(
    (id) => [id, (logits[id] ?? 0) - logSumExp] as const,
  );
  return { logits, logSumExp, top };
}

/** What is reported of a sampled token. */
export function tokenLogprobs(
  { logits, logSumExp, top }: LogprobRow,
  tokenId: number,
): TokenLogprobs {
  return { tokenId, logprob: (logits[tokenId] ?? -Infinity) - logSumExp, top };
}

/** Ids of the largest logits, descending; of equals the lower id first. Insertion, as few are asked for. */
function likeliest(logits: ArrayLike<number>, count: number): number[] {
  const ids: number[] = [];
  const valueAt = (place: number): number => logits[ids[place] ?? 0] ?? 0;
  for (let id = 0; id < logits.length && count > 0; id++) {
    const value = logits[id] ?? 0;
    if (ids.length === count && !(value > valueAt(count - 1))) continue;
    let place = ids.length;
    while (place > 0 && value > valueAt(place - 1)) place -= 1;
    ids.splice(place, 0, id);
    ids.length = Math.min(ids.length, count);
  }
  return ids;
}
