/**
 * Cuts work into batches that keep every pipeline stage busy. With ppSize stages, ppSize plans are under
 * way at once; a plan whose decodes read tokens that the plan before it samples would wait for that plan's
 * last stage. So consecutive plans take different sequences, each in its turn.
 */
import { ceilDiv } from "../common/math.ts";
import type { ExecutorLimits } from "./executor/executor.ts";
import type { Sequence } from "./sequence.ts";

type MicroBatchLimits = Pick<ExecutorLimits, "ppSize" | "numMicroBatches" | "minSplitDecodes">;

/** A prefill is not cut below so many tokens: reading the weights would cost more than it hides. */
const MIN_PREFILL_SHARE = 64;

/**
 * The decodes of one step, of the running sequences in their order. A sequence is due again `spacing` steps
 * after its last token, or once that is known; those that waited longest come first.
 */
export function chooseDecodes(
  running: readonly Sequence[],
  stepIndex: number,
  ppSize: number,
): Sequence[] {
  const decodable = running.filter((sequence) => sequence.canDecode);
  // Prefill chunks can fill the steps between; without them, fewer sequences than stages come sooner.
  const hasPrefills = running.some(({ numPrefillLeft }) => numPrefillLeft > 0);
  const spacing = hasPrefills ? ppSize : Math.max(1, Math.min(ppSize, decodable.length));
  const due = decodable.filter(
    (sequence) => sequence.isSettled || isDueAhead(sequence, stepIndex - spacing),
  );
  const numChosen = ceilDiv(decodable.length, spacing);
  if (due.length <= numChosen) return due;
  const longestWaiting = [...due].sort((a, b) => a.lastSampledStep - b.lastSampledStep);
  const chosen = new Set(longestWaiting.slice(0, numChosen));
  return due.filter((sequence) => chosen.has(sequence));
}

// A mask for the next token can only be made once the last one is known.
function isDueAhead({ request, lastSampledStep }: Sequence, newestStep: number): boolean {
  return request.allowedTokens === null && lastSampledStep <= newestStep;
}

/**
 * Over how many plans the decodes are spread: all that are under way at once, or one a stage where so few
 * sequences decode that half of them would take as long as all.
 */
export function decodeSpread(
  { ppSize = 1, numMicroBatches = 1, minSplitDecodes = 1 }: MicroBatchLimits,
  running: readonly Sequence[],
): number {
  if (numMicroBatches === 1) return ppSize;
  const numDecodes = running.filter(({ canDecode }) => canDecode).length;
  return numDecodes < minSplitDecodes ? ppSize / numMicroBatches : ppSize;
}

/**
 * Prefill tokens of one step at most, so that a burst of prompts is spread over all stages. `previous` is
 * the last step's share: it is kept while the burst lasts, or its end would be cut ever smaller.
 */
export function prefillShare(previous: number, numPrefillTokens: number, ppSize: number): number {
  if (ppSize === 1) return Number.POSITIVE_INFINITY;
  if (numPrefillTokens === 0) return 0;
  return Math.max(previous, MIN_PREFILL_SHARE, ceilDiv(numPrefillTokens, ppSize));
}
