/** Choices that the sampling kernels share, as pure functions of sizes and limits. */
import { ceilDiv, roundUp } from "../../common/math.ts";
import type { AdapterInfo } from "../../device/device.ts";
import { workgroupSize } from "../kernel.ts";

/** What a workgroup does: search a chunk, pick among lists, sort 64 candidates, walk a whole row. */
export type SamplingUse = "best" | "pick" | "sorted" | "full";

/**
 * Lanes by use. A software adapter runs a workgroup on one thread, four or eight lanes at a time,
 * and pays for each of these groups at every barrier, so it gets few lanes (16 against 64 took
 * sample_full from 5.6 to 1.7 ms on SwiftShader, 4,096 tokens); a sort needs 64. One workgroup that
 * walks a whole row wants many, to hide its loads, within 16 KiB of workgroup memory.
 */
const HARDWARE_LANES: Readonly<Record<SamplingUse, number>> = {
  best: 256,
  pick: 32,
  sorted: 256,
  full: 512,
};
const SOFTWARE_LANES: Readonly<Record<SamplingUse, number>> = {
  best: 16,
  pick: 16,
  sorted: 64,
  full: 16,
};

/** Lanes of a sampling workgroup: a power of two that the adapter allows. */
export function samplingWorkgroupSize(adapter: AdapterInfo, use: SamplingUse): number {
  const lanes = (adapter.isSoftware ? SOFTWARE_LANES : HARDWARE_LANES)[use];
  return 2 ** Math.floor(Math.log2(workgroupSize(adapter, lanes)));
}

/** Tokens of a chunk: below this a second workgroup costs more in merging than it saves. */
const MIN_CHUNK = 4096;

/** The most chunks: 32 lists of 64 are folded in 10 rounds by 256 lanes. */
const MAX_CHUNKS = 32;

/** How a rank's slice is cut so that several workgroups search it. */
export function chunksOf(numVocab: number): { readonly chunk: number; readonly numChunks: number } {
  const chunk = Math.max(MIN_CHUNK, roundUp(ceilDiv(numVocab, MAX_CHUNKS), 256));
  return { chunk, numChunks: ceilDiv(numVocab, chunk) };
}
