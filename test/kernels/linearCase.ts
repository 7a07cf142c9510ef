/** Weights of linear layers for tests, over one part or two. */
import type { WeightDType } from "../../src/common/dtype.ts";
import type { Device } from "../../src/device/device.ts";
import type { LinearWeight } from "../../src/kernels/linear.ts";
import type { GemvVariant, LinearChoice } from "../../src/kernels/linearVariant.ts";
import { encodeWeights } from "../oracles/weights.ts";
import { randomF32 } from "../support/gpu.ts";

export interface WeightCase {
  readonly numOutputs: number;
  readonly numChunks: number; // inFeatures / 8
  readonly firstPart: number; // outputs of the first of two parts; 0: one part
  readonly dtype: WeightDType;
  readonly isSwiglu: boolean;
  readonly seed: number;
}

export interface UploadedWeight {
  readonly weight: LinearWeight;
  readonly values: Float64Array; // [outFeatures, inFeatures]
}

/** Rows of the layer's weight that a part of outputs [begin, end) holds, in its order. */
function rowsOfPart(begin: number, end: number, { isSwiglu, numOutputs }: WeightCase): number[] {
  const outputs = Array.from({ length: end - begin }, (_, i) => begin + i);
  return isSwiglu ? [...outputs, ...outputs.map((n) => numOutputs + n)] : outputs;
}

export function uploadWeight(device: Device, c: WeightCase): UploadedWeight {
  const { numOutputs, dtype, isSwiglu, firstPart } = c;
  const inFeatures = c.numChunks * 8;
  const outFeatures = isSwiglu ? 2 * numOutputs : numOutputs;
  const random = randomF32(outFeatures * inFeatures, c.seed);
  const scaled = random.map((v) => v / Math.sqrt(inFeatures));
  const { bits, values } = encodeWeights(scaled, dtype);
  const isSplit = firstPart > 0 && firstPart < numOutputs;
  const borders = [0, ...(isSplit ? [firstPart] : []), numOutputs];
  const parts = borders.slice(1).map((end, i) => {
    const begin = borders[i] ?? 0;
    const partRows = rowsOfPart(begin, end, c);
    const data = bits.slice(0, partRows.length * inFeatures);
    partRows.forEach((row, at) => {
      data.set(bits.subarray(row * inFeatures, (row + 1) * inFeatures), at * inFeatures);
    });
    const tensor = device.upload(data, [partRows.length, inFeatures], dtype);
    return { tensor, outOffset: begin };
  });
  return { weight: { outFeatures, inFeatures, parts }, values };
}

export function gemv(
  tokens: GemvVariant["tokens"],
  workgroupSize: number,
  rowSum: GemvVariant["rowSum"],
  activations: GemvVariant["activations"],
): GemvVariant {
  return { kind: "gemv", tokens, workgroupSize, rowSum, activations };
}

/** A variant that holds the activations of up to 16 times the lanes. */
export function held(workgroupSize: number, maxWorkgroups: number): GemvVariant {
  return { ...gemv(1, workgroupSize, "subgroup", "load"), maxWorkgroups };
}

/** A variant for any number of rows. */
export function always(variant: LinearChoice["variant"]): LinearChoice[] {
  return [{ variant, minRows: 1, maxRows: Infinity }];
}
