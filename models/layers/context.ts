/** What every layer's forward is given: the recording, the step's inputs, and this rank's groups. */
import type { Communicator } from "../../src/collectives/communicator.ts";
import type { Tensor } from "../../src/device/device.ts";
import type { Recorder } from "../../src/device/recorder.ts";
import type { LinearWeight } from "../../src/kernels/linear.ts";

/** Written by the runtime before each replay. All u32. */
export interface StepInputs {
  readonly tokenIds: Tensor; // [capacity]; bit 31 set: the low bits are a slot of lastToken
  readonly positions: Tensor; // [capacity]
  readonly sequenceIndex: Tensor; // [capacity]: row of blockTables
  readonly slotMapping: Tensor; // [capacity]: block * blockSize + offset
  readonly blockTables: Tensor; // [maxNumSeqs, maxBlocksPerSequence]
  readonly prefillTiles: Tensor; // [maxTiles, 4]
  readonly sampleRows: Tensor; // [maxSamples]: rows of the residual that get logits
}

/** Keys and values of one layer. */
export interface LayerKvCache {
  readonly key: Tensor; // [numBlocks, blockSize, numKvHeads, headDim]
  readonly value: Tensor; // [numBlocks, blockSize, numKvHeads, headDim]
}

/** Which element type the KV cache has; f16 is packed two to a u32. */
export type KvCacheDType = "f32" | "f16";

/** This rank's weights by target name (weights/plan.ts), already on the device. */
export interface WeightStore {
  linear(name: string): LinearWeight;
  vector(name: string): Tensor;
  optionalVector(name: string): Tensor | undefined;
}

export interface ForwardContext {
  readonly rec: Recorder;
  readonly inputs: StepInputs;
  /** Rows of every activation in this recording. */
  readonly capacity: number;
  readonly tp: Communicator;
  readonly pp: Communicator;
}
