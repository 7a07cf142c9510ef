/**
 * How one sampled row is described to the GPU: a row of `samplingRows`, u32 [maxSamples, 12].
 *
 * Order of what happens to the logits, as in vLLM (v1/sample/sampler.py, ops/topk_topp_sampler.py):
 * masks, bans and biases; penalties; greedy rows take the largest (the lowest token id on a tie); else temperature, min-p,
 * top-k, then top-p over the distribution that min-p and top-k leave, renormalised; then a draw.
 * One difference: of tokens that tie at the k-th place, vLLM keeps all, Tandem the lowest ids.
 */

/** u32 words of a row. */
export const SAMPLING_ROW_WORDS = 12;

/** Word of each field; `f32` fields hold their bits. The WGSL twin is shaders/sampling/sampling_row.wgsl. */
export const samplingRowField = {
  /** The sequence's slot: where its token goes in `lastToken`, and its row of token counts. */
  slot: 0,
  seed: 1,
  /** Position that the sampled token will take; with the seed and each token id it keys the noise. */
  position: 2,
  /** Bits of `samplingFlag`. */
  flags: 3,
  temperature: 4, // f32; above 0 unless greedy
  topK: 5, // 0 = off
  topP: 6, // f32; 1 = off
  minP: 7, // f32; 0 = off
  repetitionPenalty: 8, // f32; 1 = off
  presencePenalty: 9, // f32; 0 = off
  frequencyPenalty: 10, // f32; 0 = off
  /** 0 = none; else 1 + the row's row of `masks`. */
  mask: 11,
} as const;

/** Bits of the flags field. */
export const samplingFlag = {
  greedy: 1,
  /** Logits depend on the tokens so far. */
  penalties: 2,
  /** top-k, top-p or min-p is on; ignored on a greedy row. */
  filtered: 4,
  /** Filtered, and more than 64 tokens may survive top-k: top-k is off or above 64. */
  wide: 8,
} as const;

/** A row to pack. */
export interface SamplingRow {
  readonly slot: number;
  readonly position: number;
  readonly seed: number;
  readonly isGreedy: boolean;
  readonly hasPenalties: boolean;
  readonly isFiltered: boolean;
  readonly isWide: boolean;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  /** Which row of `masks` says what may be sampled; all tokens may where there is none. */
  readonly maskRow?: number | undefined;
}

const float = new Float32Array(1);
const floatBits = new Uint32Array(float.buffer);

function bitsOf(value: number): number {
  float[0] = value;
  return floatBits[0] ?? 0;
}

function flagsOf(row: SamplingRow): number {
  return (
    (row.isGreedy ? samplingFlag.greedy : 0) |
    (row.hasPenalties ? samplingFlag.penalties : 0) |
    (row.isFiltered ? samplingFlag.filtered : 0) |
    (row.isWide ? samplingFlag.wide : 0)
  );
}

/** Writes row `index` of `rows`, the host copy of samplingRows. */
export function packSamplingRow(rows: Uint32Array, index: number, row: SamplingRow): void {
  rows.set(
    [
      row.slot,
      row.seed,
      row.position,
      flagsOf(row),
      bitsOf(row.temperature),
      row.topK,
      bitsOf(row.topP),
      bitsOf(row.minP),
      bitsOf(row.repetitionPenalty),
      bitsOf(row.presencePenalty),
      bitsOf(row.frequencyPenalty),
      row.maskRow === undefined ? 0 : row.maskRow + 1,
    ],
    index * SAMPLING_ROW_WORDS,
  );
}
