/** Repetition, presence and frequency penalties; token_counts.wgsl and apply_penalties.wgsl. */
import { expectDType, expectShape, type Tensor } from "../../device/device.ts";
import { defineKernel, type Kernel, pack, u32, workgroupSize } from "../kernel.ts";
import { SAMPLING_ROW_WORDS } from "./samplingRow.ts";

/** u32 words of a row of `penaltyParts`. */
export const PENALTY_PART_WORDS = 4;

/** The part of a step that feeds tokens to one sequence with penalties. */
export interface PenaltyPart {
  readonly slot: number;
  /** First row of the sequence's tokens in `tokenIds`. */
  readonly firstTokenRow: number;
  readonly numTokens: number;
  /** How many of these, from the first on, belong to the prompt; the rest is completion. */
  readonly numPromptTokens: number;
  /** The slot's first part since it was given to this sequence: what it held is cleared. */
  readonly isFirst: boolean;
}

/** Writes row `index` of `parts`, the host copy of penaltyParts. */
export function packPenaltyPart(parts: Uint32Array, index: number, part: PenaltyPart): void {
  const isFirst = part.isFirst ? 0x80000000 : 0;
  parts.set(
    [part.slot, part.firstTokenRow, part.numTokens, part.numPromptTokens + isFirst],
    index * PENALTY_PART_WORDS,
  );
}

/** A row of `counts` that holds these tokens, the first promptLength of them as prompt; see token_counts.wgsl. */
export function countsOf(
  tokenIds: readonly number[],
  promptLength: number,
  vocab: { readonly begin: number; readonly end: number },
): Uint32Array<ArrayBuffer> {
  const row = new Uint32Array(vocab.end - vocab.begin);
  for (const [position, tokenId] of tokenIds.entries()) {
    const local = tokenId - vocab.begin;
    const count = row[local];
    if (count === undefined) continue; // another rank's
    row[local] = position < promptLength ? count | 0x80000000 : count + 1;
  }
  return row;
}

export interface TokenCountsArgs {
  readonly penaltyParts: Tensor; // [maxSeqs, 4] u32; the first live.numPenalized rows are read
  readonly tokenIds: Tensor; // [maxTokens] u32; bit 31 set: the low bits are a slot of lastToken
  readonly lastToken: Tensor; // [maxSeqs] u32
  readonly counts: Tensor; // [maxSeqs, numVocab] u32, kept between steps
  readonly firstTokenId: number; // of the rank's slice
}

/**
 * Records one launch; skipped in steps without penalties. It reads `lastToken`, so it comes before
 * the step's pick.
 */
export const tokenCounts: Kernel<TokenCountsArgs> = defineKernel({
  name: "token_counts",
  sources: ["sampling/token_counts.wgsl"],
  overrides: (_args, adapter) => ({ WG_SIZE: workgroupSize(adapter, 256) }),
  launch: ({ penaltyParts, tokenIds, lastToken, counts, firstTokenId }) => {
    const [maxSeqs = 0, numVocab = 0] = counts.shape;
    expectShape("penaltyParts", penaltyParts, [maxSeqs, PENALTY_PART_WORDS]);
    expectShape("lastToken", lastToken, [maxSeqs]);
    expectDType("counts", counts, ["u32"]);
    return {
      params: pack(u32(numVocab), u32(firstTokenId)),
      inputs: [penaltyParts, tokenIds, lastToken],
      outputs: [counts],
      workgroups: (live) => [live.numPenalized, 1, 1],
    };
  },
});

export interface ApplyPenaltiesArgs {
  readonly samplingRows: Tensor; // [maxSamples, 12] u32
  readonly counts: Tensor; // [maxSeqs, numVocab] u32
  readonly logits: Tensor; // [maxSamples, numVocab] f32, changed in place
}

/** Records one launch over the rows with penalties; skipped in steps without. */
export const applyPenalties: Kernel<ApplyPenaltiesArgs> = defineKernel({
  name: "apply_penalties",
  sources: [
    "lib/sort_key.wgsl",
    "lib/random.wgsl",
    "sampling/sampling_row.wgsl",
    "sampling/apply_penalties.wgsl",
  ],
  overrides: (_args, adapter) => ({ WG_SIZE: workgroupSize(adapter, 256) }),
  launch: ({ samplingRows, counts, logits }, adapter) => {
    const [maxSamples = 0, numVocab = 0] = logits.shape;
    const [maxSeqs = 0] = counts.shape;
    expectShape("samplingRows", samplingRows, [maxSamples, SAMPLING_ROW_WORDS]);
    expectShape("counts", counts, [maxSeqs, numVocab]);
    const numGroups = Math.ceil(numVocab / (workgroupSize(adapter, 256) * 4));
    return {
      params: pack(u32(numVocab)),
      inputs: [samplingRows, counts],
      outputs: [logits],
      workgroups: (live) => [numGroups, live.numPenalized > 0 ? live.numSamples : 0, 1],
    };
  },
});
