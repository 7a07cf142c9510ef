/**
 * The best tokens of a rank's slice of the vocabulary; the shaders are sample_best.wgsl,
 * sample_candidates.wgsl and sample_merge.wgsl. The slice is cut into chunks, one list each.
 */
import { expectDType, expectShape, type Tensor } from "../../device/device.ts";
import type { Recorder } from "../../device/recorder.ts";
import type { LaunchCounts } from "../../device/liveCounts.ts";
import { defineKernel, type Kernel, type KernelLaunch, pack, u32 } from "../kernel.ts";
import { CANDIDATE_WORDS } from "./candidateLayout.ts";
import { SAMPLING_ROW_WORDS } from "./samplingRow.ts";
import { chunksOf, samplingWorkgroupSize } from "./samplingVariant.ts";

export interface CandidateListsArgs {
  readonly logits: Tensor; // [maxSamples, numVocab] f32, penalties applied
  readonly firstTokenId: number; // of the slice
  readonly samplingRows: Tensor; // [maxSamples, 12] u32
  readonly lists: Tensor; // [chunksOf(numVocab).numChunks, maxSamples, 130] u32
}

export interface TopCandidatesArgs {
  readonly logits: Tensor; // [maxSamples, numVocab] f32, penalties applied
  readonly firstTokenId: number; // of the slice
  readonly samplingRows: Tensor; // [maxSamples, 12] u32
  readonly candidates: Tensor; // [maxSamples, 130] u32
}

interface MergeArgs {
  readonly lists: Tensor; // [numLists, maxSamples, 130] u32
  readonly samplingRows: Tensor; // [maxSamples, 12] u32
  readonly candidates: Tensor; // [maxSamples, 130] u32
}

/** For kernels that read the best entry of several lists. */
export const mergeBestSources = [
  "lib/sort_key.wgsl",
  "lib/random.wgsl",
  "lib/block_best.wgsl",
  "sampling/sampling_row.wgsl",
  "sampling/candidate_list.wgsl",
  "sampling/merge_best.wgsl",
] as const;

/** For kernels that merge several lists. */
export const mergeSources = [
  ...mergeBestSources,
  "lib/block_sum.wgsl",
  "lib/bitonic64.wgsl",
  "sampling/merge_lists.wgsl",
] as const;

/** Workgroups of kernels for filtered rows; the grid holds all samples, and others return at once. */
export function numFilteredRows(live: LaunchCounts): number {
  return live.numFiltered > 0 ? live.numSamples : 0;
}

/** Workgroups of kernels for greedy and unfiltered rows. */
export function numUnfilteredRows(live: LaunchCounts): number {
  return live.numFiltered < live.numSamples ? live.numSamples : 0;
}

function listsLaunch(
  { logits, firstTokenId, samplingRows, lists }: CandidateListsArgs,
  lanes: number,
  numRows: (live: LaunchCounts) => number,
): KernelLaunch {
  const [maxSamples = 0, numVocab = 0] = logits.shape;
  const { chunk, numChunks } = chunksOf(numVocab);
  expectDType("logits", logits, ["f32"]);
  expectShape("samplingRows", samplingRows, [maxSamples, SAMPLING_ROW_WORDS]);
  expectShape("lists", lists, [numChunks, maxSamples, CANDIDATE_WORDS]);
  return {
    params: pack(u32(numVocab), u32(firstTokenId), u32(maxSamples), u32(chunk), u32(lanes)),
    inputs: [logits, samplingRows],
    outputs: [lists],
    workgroups: (live) => [numChunks, numRows(live), 1],
  };
}

/** Greedy and unfiltered rows; skipped where all rows are filtered. */
const sampleBest: Kernel<CandidateListsArgs> = defineKernel({
  name: "sample_best",
  sources: [
    "lib/sort_key.wgsl",
    "lib/random.wgsl",
    "lib/block_best.wgsl",
    "sampling/sampling_row.wgsl",
    "sampling/candidate_list.wgsl",
    "sampling/sample_best.wgsl",
  ],
  overrides: (_args, adapter) => ({ WG_SIZE: samplingWorkgroupSize(adapter, "best") }),
  launch: (args, adapter) =>
    listsLaunch(args, samplingWorkgroupSize(adapter, "best"), numUnfilteredRows),
});

/** Filtered rows; skipped where there are none. */
const sampleCandidates: Kernel<CandidateListsArgs> = defineKernel({
  name: "sample_candidates",
  sources: [
    "lib/sort_key.wgsl",
    "lib/random.wgsl",
    "lib/bitonic64.wgsl",
    "lib/block_sum.wgsl",
    "sampling/sampling_row.wgsl",
    "sampling/candidate_list.wgsl",
    "sampling/sample_candidates.wgsl",
  ],
  overrides: (_args, adapter) => ({ WG_SIZE: samplingWorkgroupSize(adapter, "sorted") }),
  launch: (args, adapter) =>
    listsLaunch(args, samplingWorkgroupSize(adapter, "sorted"), numFilteredRows),
});

const mergeCandidates: Kernel<MergeArgs> = defineKernel({
  name: "sample_merge",
  sources: [...mergeSources, "sampling/sample_merge.wgsl"],
  overrides: (_args, adapter) => ({ WG_SIZE: samplingWorkgroupSize(adapter, "sorted") }),
  launch: ({ lists, samplingRows, candidates }, adapter) => {
    const lanes = samplingWorkgroupSize(adapter, "sorted");
    const [numLists = 0, maxSamples = 0] = lists.shape;
    expectShape("candidates", candidates, [maxSamples, CANDIDATE_WORDS]);
    return {
      params: pack(u32(numLists), u32(maxSamples), u32(lanes)),
      inputs: [samplingRows, lists],
      outputs: [candidates],
      workgroups: (live) => [live.numSamples, 1, 1],
    };
  },
});

/** Records the lists of all chunks: one launch, or two where a step holds filtered and other rows. */
export function candidateLists(rec: Recorder, args: CandidateListsArgs): void {
  sampleBest(rec, args);
  sampleCandidates(rec, args);
}

/** Records the slice's candidates as one list a row, for a gather over ranks. */
export function topCandidates(rec: Recorder, args: TopCandidatesArgs): void {
  const { logits, firstTokenId, samplingRows, candidates } = args;
  const [maxSamples = 0, numVocab = 0] = logits.shape;
  expectShape("candidates", candidates, [maxSamples, CANDIDATE_WORDS]);
  const { numChunks } = chunksOf(numVocab);
  const shape = [numChunks, maxSamples, CANDIDATE_WORDS];
  const lists =
    numChunks === 1 ? candidates.view(shape) : rec.alloc("candidate lists", shape, "u32");
  candidateLists(rec, { logits, firstTokenId, samplingRows, lists });
  if (numChunks > 1) mergeCandidates(rec, { lists, samplingRows, candidates });
}
