import type { WeightDType } from "../common/dtype.ts";
import { ceilDiv } from "../common/math.ts";
import type { Tensor } from "../device/device.ts";
import type { Recorder } from "../device/recorder.ts";
import { defineKernel, type Kernel, pack, spread, u32 } from "./kernel.ts";
import type { GemvVariant } from "./linearVariant.ts";

export interface LinearWeight {
  readonly parts: readonly { readonly tensor: Tensor; readonly outOffset: number }[];
  readonly outFeatures: number;
  readonly inFeatures: number;
}
export interface PartArgs {
  readonly x: Tensor;
  readonly weight: Tensor;
  readonly bias?: Tensor | undefined;
  readonly out: Tensor;
  readonly outOffset: number;
  readonly swiglu: boolean;
  readonly rows: "tokens" | "samples";
  readonly variant: GemvVariant;
}
export const gemv: Kernel<PartArgs> = defineKernel<PartArgs>({
  name: "linear_gemv",
  sources: ({ variant, weight }) => [
    "lib/live.wgsl",
    `lib/weights_${weight.dtype}.wgsl`,
    `lib/tokens_${variant.tokens}.wgsl`,
    `lib/row_sum_${variant.rowSum}.wgsl`,
    "lib/silu.wgsl",
    "linear_gemv.wgsl",
  ],
  prelude: ({ variant }) => `const ROWS = ${variant.rowsPerLane}u;`,
  overrides: ({ variant, swiglu }) => ({
    WG_SIZE: variant.workgroupSize,
    LANES_PER_ROW: variant.lanesPerRow,
    SWIGLU: Number(swiglu),
  }),
  launch: ({ x, weight, bias, out, outOffset, swiglu, rows, variant }, adapter) => {
    const [numRows = 0, inFeatures = 0] = weight.shape;
    const numOutputs = swiglu ? numRows / 2 : numRows;
    const per = (variant.workgroupSize / variant.lanesPerRow) * variant.rowsPerLane;
    const [gx, gy] = spread(ceilDiv(numOutputs, per), adapter);
    return {
      params: pack(
        u32(numOutputs),
        u32(inFeatures / 8),
        u32(out.shape[1] ?? 0),
        u32(outOffset),
        u32(0),
        u32(bias === undefined ? 0 : 1),
        u32(rows === "samples" ? 1 : 0),
      ),
      inputs: [x, weight, bias ?? x],
      outputs: [out],
      workgroups: (live) => [gx, gy, ceilDiv(rows === "samples" ? live.numSamples : live.numTokens, variant.tokens)],
    };
  },
});
void (0 as unknown as WeightDType | Recorder);
