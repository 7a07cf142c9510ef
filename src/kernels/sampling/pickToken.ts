/** The sampled tokens, from candidates or from whole rows; pick_best.wgsl,
 * pick_filtered.wgsl and sample_full.wgsl. */
import { expectDType, expectShape, type Tensor } from "../../device/device.ts";
import type { Recorder } from "../../device/recorder.ts";
import type { LaunchCounts } from "../../device/liveCounts.ts";
import { defineKernel, type Kernel, type KernelLaunch, pack, u32 } from "../kernel.ts";
import {
  candidateLists,
  mergeBestSources,
  mergeSources,
  numFilteredRows,
  numUnfilteredRows,
} from "./candidates.ts";
import { CANDIDATE_WORDS } from "./candidateLayout.ts";
import { SAMPLING_ROW_WORDS } from "./samplingRow.ts";
import { chunksOf, samplingWorkgroupSize } from "./samplingVariant.ts";

export interface PickTokenArgs {
  readonly lists: Tensor; // [numLists, maxSamples, 130] u32: of all ranks, or of all chunks of one
  readonly samplingRows: Tensor; // [maxSamples, 12] u32
  readonly sampledIds: Tensor; // [maxSamples] u32
  readonly lastToken: Tensor; // [maxSeqs] u32; the row's slot is written
  /**
   * [maxSamples] u32. Written: the row's own index where it needs full logits, else NO_TOKEN. With
   * hostDecides it is read: anything but NO_TOKEN leaves the row to sampleFull.
   */
  readonly fullRows: Tensor;
  /** The host has filled fullRows from `needsFullRow`. */
  readonly hostDecides: boolean;
}

function pickLaunch(
  { lists, samplingRows, sampledIds, lastToken, fullRows }: PickTokenArgs,
  lanes: number,
  numRows: (live: LaunchCounts) => number,
): KernelLaunch {
  const [numLists = 0, maxSamples = 0] = lists.shape;
  expectShape("lists", lists, [numLists, maxSamples, CANDIDATE_WORDS]);
  expectShape("samplingRows", samplingRows, [maxSamples, SAMPLING_ROW_WORDS]);
  expectShape("sampledIds", sampledIds, [maxSamples]);
  expectShape("fullRows", fullRows, [maxSamples]);
  return {
    params: pack(u32(numLists), u32(maxSamples), u32(lanes)),
    inputs: [samplingRows, lists],
    outputs: [sampledIds, lastToken, fullRows],
    workgroups: (live) => [numRows(live), 1, 1],
  };
}

/** Greedy and unfiltered rows; skipped where all rows are filtered. */
const pickBest: Kernel<PickTokenArgs> = defineKernel({
  name: "pick_best",
  sources: [...mergeBestSources, "sampling/pick_best.wgsl"],
  overrides: (_args, adapter) => ({ WG_SIZE: samplingWorkgroupSize(adapter, "pick") }),
  launch: (args, adapter) =>
    pickLaunch(args, samplingWorkgroupSize(adapter, "pick"), numUnfilteredRows),
});

/** Filtered rows; skipped where there are none. */
const pickFiltered: Kernel<PickTokenArgs> = defineKernel({
  name: "pick_filtered",
  sources: [...mergeSources, "sampling/pick_filtered.wgsl"],
  overrides: ({ hostDecides }, adapter) => ({
    WG_SIZE: samplingWorkgroupSize(adapter, "sorted"),
    HOST_DECIDES: Number(hostDecides),
  }),
  launch: (args, adapter) =>
    pickLaunch(args, samplingWorkgroupSize(adapter, "sorted"), numFilteredRows),
});

/** Records the pick of all sampled rows: one launch, or two where filtered and other rows meet. */
export function pickToken(rec: Recorder, args: PickTokenArgs): void {
  pickBest(rec, args);
  pickFiltered(rec, args);
}

export interface SampleFullArgs {
  readonly logits: Tensor; // [numRows, vocab] f32, penalties applied
  readonly samplingRows: Tensor; // [maxSamples, 12] u32
  readonly fullRows: Tensor; // [maxSamples] u32: the sample's row of logits, or NO_TOKEN
  readonly sampledIds: Tensor; // [maxSamples] u32
  readonly lastToken: Tensor; // [maxSeqs] u32
}

/** Records one launch over the sampled rows, skipped in steps without wide rows. */
export const sampleFull: Kernel<SampleFullArgs> = defineKernel({
  name: "sample_full",
  sources: [
    "lib/sort_key.wgsl",
    "lib/random.wgsl",
    "lib/block_best.wgsl",
    "sampling/sampling_row.wgsl",
    "sampling/sample_full.wgsl",
  ],
  overrides: (_args, adapter) => ({ WG_SIZE: samplingWorkgroupSize(adapter, "full") }),
  launch: ({ logits, samplingRows, fullRows, sampledIds, lastToken }, adapter) => {
    const lanes = samplingWorkgroupSize(adapter, "full");
    const [numRows = 0, vocab = 0] = logits.shape;
    const [maxSamples = 0] = fullRows.shape;
    expectDType("logits", logits, ["f32"]);
    expectShape("samplingRows", samplingRows, [maxSamples, SAMPLING_ROW_WORDS]);
    expectShape("sampledIds", sampledIds, [maxSamples]);
    return {
      params: pack(u32(vocab), u32(numRows), u32(lanes)),
      inputs: [logits, samplingRows, fullRows],
      outputs: [sampledIds, lastToken],
      workgroups: (live) => [live.numWide > 0 ? live.numSamples : 0, 1, 1],
    };
  },
});

/** Everything after the penalties where one rank holds the whole vocabulary; 2 to 4 launches. */
export interface SampleLocalArgs {
  readonly logits: Tensor; // [maxSamples, vocab] f32, penalties applied
  readonly samplingRows: Tensor; // [maxSamples, 12] u32
  readonly sampledIds: Tensor; // [maxSamples] u32
  readonly lastToken: Tensor; // [maxSeqs] u32
}

/** Records sampling without any host operation: for tpSize 1. */
export function sampleLocal(rec: Recorder, args: SampleLocalArgs): void {
  const { logits, samplingRows, sampledIds, lastToken } = args;
  const [maxSamples = 0, vocab = 0] = logits.shape;
  const shape = [chunksOf(vocab).numChunks, maxSamples, CANDIDATE_WORDS];
  const lists = rec.alloc("candidate lists", shape, "u32");
  const fullRows = rec.alloc("full rows", [maxSamples], "u32");
  candidateLists(rec, { logits, firstTokenId: 0, samplingRows, lists });
  pickToken(rec, { lists, samplingRows, sampledIds, lastToken, fullRows, hostDecides: false });
  sampleFull(rec, { logits, samplingRows, fullRows, sampledIds, lastToken });
}
