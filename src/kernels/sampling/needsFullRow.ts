/** The decision of pick_filtered.wgsl on the host, for candidates that pass through it between ranks. */
import { CANDIDATE_WORDS, candidateField, MAX_CANDIDATES } from "./candidateLayout.ts";
import { SAMPLING_ROW_WORDS, samplingFlag, samplingRowField } from "./samplingRow.ts";

interface Candidate {
  readonly value: number;
  readonly tokenId: number;
}

const word = new Uint32Array(1);
const wordAsFloat = new Float32Array(word.buffer);

function floatOf(bits: number | undefined): number {
  word[0] = bits ?? 0;
  const value = wordAsFloat[0] ?? 0;
  return Number.isNaN(value) ? -Infinity : value;
}

/** exp((value - top) / temperature), the probability relative to the likeliest token. */
function relativeWeight(value: number, top: number, temperature: number): number {
  if (value === -Infinity) return 0;
  return value === top ? 1 : Math.exp((value - top) / temperature);
}

/**
 * True if the 64 best of the gathered candidates do not decide row `row`, so that its full logits are
 * needed. `lists` holds [numLists, maxSamples, 130], `samplingRows` [maxSamples, 12].
 */
export function needsFullRow(
  lists: Uint32Array,
  numLists: number,
  samplingRows: Uint32Array,
  row: number,
): boolean {
  const at = row * SAMPLING_ROW_WORDS;
  const flags = samplingRows[at + samplingRowField.flags] ?? 0;
  const isFiltered =
    (flags & (samplingFlag.filtered | samplingFlag.greedy)) === samplingFlag.filtered;
  const topK = samplingRows[at + samplingRowField.topK] ?? 0;
  if (!isFiltered || (topK > 0 && topK <= MAX_CANDIDATES)) return false;

  const temperature = floatOf(samplingRows[at + samplingRowField.temperature]);
  const topP = floatOf(samplingRows[at + samplingRowField.topP]);
  const minP = floatOf(samplingRows[at + samplingRowField.minP]);
  const { candidates, numVocab, massOf } = mergeLists(lists, numLists, row);
  if (numVocab <= MAX_CANDIDATES) return false;
  const top = candidates[0]?.value ?? -Infinity;
  const weights = candidates.map(({ value }) => relativeWeight(value, top, temperature));
  if (weights.some((weight, i) => i > 0 && !(weight > 0 && weight >= minP))) return false;
  if (topK > 0 || minP > 0 || topP >= 1) return true;
  const mass = weights.reduce((sum, weight) => sum + weight, 0);
  return mass < topP * massOf(top, temperature);
}

interface MergedLists {
  readonly candidates: readonly Candidate[]; // the 64 best, sorted
  readonly numVocab: number;
  /** Mass of all slices relative to the value `top`. */
  readonly massOf: (top: number, temperature: number) => number;
}

function mergeLists(lists: Uint32Array, numLists: number, row: number): MergedLists {
  const maxSamples = lists.length / CANDIDATE_WORDS / numLists;
  const starts = Array.from(
    { length: numLists },
    (_, i) => (i * maxSamples + row) * CANDIDATE_WORDS,
  );
  const candidates = starts
    .flatMap((start) => entriesOf(lists, start))
    .sort((a, b) => b.value - a.value || a.tokenId - b.tokenId)
    .slice(0, MAX_CANDIDATES);
  return {
    candidates,
    numVocab: starts.reduce((sum, start) => sum + (lists[start + candidateField.size] ?? 0), 0),
    massOf: (top, temperature) =>
      starts.reduce((sum, start) => {
        const best = floatOf(lists[start + candidateField.entries]);
        const mass = floatOf(lists[start + candidateField.mass]);
        return sum + mass * relativeWeight(best, top, temperature);
      }, 0),
  };
}

function entriesOf(lists: Uint32Array, start: number): Candidate[] {
  return Array.from({ length: MAX_CANDIDATES }, (_, i) => {
    const at = start + candidateField.entries + 2 * i;
    return { value: floatOf(lists[at]), tokenId: lists[at + 1] ?? 0 };
  });
}
