/**
 * Attention over the paged KV cache, grouped-query and causal, with an optional sliding window.
 * Three launches: split-K decode for the leading one-token rows, the merge of its splits (skipped
 * where there is one), and tiles for the rows of prefill. A fourth takes the place of the first two
 * where contexts are too short for splits and the adapter was measured.
 */
import type { Recorder } from "../device/recorder.ts";
import { type AttentionArgs, checkShapes } from "./attentionArgs.ts";
import { attentionDecode, attentionMerge, attentionWhole, hasWhole } from "./attentionDecode.ts";
import { attentionPrefill } from "./attentionPrefill.ts";
import { partialRows } from "./attentionSplits.ts";

export type { AttentionArgs } from "./attentionArgs.ts";
export { type AttentionHeads, chooseSplits } from "./attentionSplits.ts";
export { buildPrefillTiles, TILE_Q } from "./attentionVariant.ts";

/** Records the launches. */
export function attention(rec: Recorder, args: AttentionArgs): void {
  checkShapes(args);
  const { q, numHeads, headDim, maxSplits, maxDecodeTokens } = args;
  const capacity = Math.min(q.shape[0] ?? 0, maxDecodeTokens ?? Infinity);
  const rows = maxSplits === 1 ? 1 : partialRows(capacity, maxSplits); // one split writes `out`
  if (capacity > 0) {
    const partials = rec.alloc("attention partials", [rows, numHeads, headDim + 4]);
    if (hasWhole(args, rec.device.info)) attentionWhole(rec, { ...args, partials });
    attentionDecode(rec, { ...args, partials });
    if (maxSplits > 1) attentionMerge(rec, { ...args, partials });
  }
  attentionPrefill(rec, args);
}
