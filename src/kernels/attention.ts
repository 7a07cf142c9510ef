/**
 * Attention over the paged KV cache, grouped-query and causal, with an optional sliding window.
 * Three launches: split-K decode for the leading one-token rows, the merge of its splits (skipped
 * where there is one), and tiles for the rows of prefill.
 */
import type { Recorder } from "../device/recorder.ts";
import { type AttentionArgs, checkShapes } from "./attentionArgs.ts";
import { attentionDecode, attentionMerge } from "./attentionDecode.ts";
import { attentionPrefill } from "./attentionPrefill.ts";
import { partialRows } from "./attentionVariant.ts";

export type { AttentionArgs } from "./attentionArgs.ts";
export { buildPrefillTiles, chooseSplits, TILE_Q } from "./attentionVariant.ts";

/** Records the three launches. */
export function attention(rec: Recorder, args: AttentionArgs): void {
  checkShapes(args);
  const { q, numHeads, headDim, maxSplits, maxDecodeTokens } = args;
  const capacity = Math.min(q.shape[0] ?? 0, maxDecodeTokens ?? Infinity);
  const rows = maxSplits === 1 ? 1 : partialRows(capacity, maxSplits); // one split writes `out`
  if (capacity > 0) {
    const partials = rec.alloc("attention partials", [rows, numHeads, headDim + 4]);
    attentionDecode(rec, { ...args, partials });
    if (maxSplits > 1) attentionMerge(rec, { ...args, partials });
  }
  attentionPrefill(rec, args);
}
