/** The params that the shaders of linear layers share: shaders/lib/linear_io.wgsl, fused_params.wgsl. */
import { type Field, u32 } from "./kernel.ts";
import type { LinearArgs, WeightPart } from "./linear.ts";

type ParamArgs = Pick<LinearArgs, "weight" | "bias" | "rows" | "activation"> & {
  readonly part: WeightPart;
};

/** Of one part of the weight; `outStride`: elements from a token of the output to the next. */
export function linearFields(args: ParamArgs, outStride: number): readonly Field[] {
  const { weight, bias, rows, part } = args;
  const isSwiglu = args.activation === "swiglu";
  const [numRows = 0] = part.tensor.shape;
  return [
    u32(isSwiglu ? numRows / 2 : numRows),
    u32(weight.inFeatures / 8),
    u32(outStride),
    u32(part.outOffset),
    u32(weight.outFeatures / 2),
    u32(bias === undefined ? 0 : 1),
    u32(isSwiglu ? 1 : 0),
    u32(rows === "samples" ? 1 : 0),
  ];
}
