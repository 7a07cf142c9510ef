/** What requests do to single logits: biases, bans and masks; bias_logits.wgsl and mask_logits.wgsl. */
import { ceilDiv } from "../../common/math.ts";
import { expectDType, expectShape, type Tensor } from "../../device/device.ts";
import { defineKernel, type Kernel, pack, u32, workgroupSize } from "../kernel.ts";
import { SAMPLING_ROW_WORDS } from "./samplingRow.ts";

/** u32 words of an entry of `biases`: row, id within the rank's slice, f32 bits of the bias. */
export const BIAS_WORDS = 3;

export interface BiasLogitsArgs {
  readonly biases: Tensor; // [maxBiases, 3] u32; the first live.numBiased rows are read
  readonly logits: Tensor; // [maxSamples, numVocab] f32, changed in place
}

/** Records one launch; skipped in steps without biases or bans. */
export const biasLogits: Kernel<BiasLogitsArgs> = defineKernel({
  name: "bias_logits",
  sources: ["lib/live.wgsl", "lib/sort_key.wgsl", "sampling/bias_logits.wgsl"],
  overrides: (_args, adapter) => ({ WG_SIZE: workgroupSize(adapter, 256) }),
  launch: ({ biases, logits }, adapter) => {
    const [maxBiases = 0] = biases.shape;
    const [, numVocab = 0] = logits.shape;
    expectShape("biases", biases, [maxBiases, BIAS_WORDS]);
    expectDType("logits", logits, ["f32"]);
    const lanes = workgroupSize(adapter, 256);
    return {
      params: pack(u32(numVocab)),
      inputs: [biases],
      outputs: [logits],
      workgroups: (live) => [ceilDiv(live.numBiased, lanes), 1, 1],
    };
  },
});

export interface MaskLogitsArgs {
  readonly samplingRows: Tensor; // [maxSamples, 12] u32
  readonly masks: Tensor; // [maxMasks, ceil(numVocab / 32)] u32
  readonly logits: Tensor; // [maxSamples, numVocab] f32, changed in place
}

/** Records one launch over the rows with a mask; skipped in steps without. */
export const maskLogits: Kernel<MaskLogitsArgs> = defineKernel({
  name: "mask_logits",
  sources: [
    "lib/sort_key.wgsl",
    "lib/random.wgsl",
    "sampling/sampling_row.wgsl",
    "sampling/mask_logits.wgsl",
  ],
  overrides: (_args, adapter) => ({ WG_SIZE: workgroupSize(adapter, 256) }),
  launch: ({ samplingRows, masks, logits }, adapter) => {
    const [maxSamples = 0, numVocab = 0] = logits.shape;
    const [maxMasks = 0] = masks.shape;
    const maskWords = ceilDiv(numVocab, 32);
    expectShape("samplingRows", samplingRows, [maxSamples, SAMPLING_ROW_WORDS]);
    expectShape("masks", masks, [maxMasks, maskWords]);
    const numGroups = ceilDiv(numVocab, workgroupSize(adapter, 256) * 4);
    return {
      params: pack(u32(numVocab), u32(maskWords)),
      inputs: [samplingRows, masks],
      outputs: [logits],
      workgroups: (live) => [numGroups, live.numMasked > 0 ? live.numSamples : 0, 1],
    };
  },
});
