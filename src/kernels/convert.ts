/** Dtype conversion of uploaded weights; the shader is shaders/convert.wgsl. */
import type { DType } from "../common/dtype.ts";
import { ShapeError } from "../common/errors.ts";
import { ceilDiv } from "../common/math.ts";
import { expectDType, type Tensor } from "../device/device.ts";
import { defineKernel, type Kernel, pack, spread, u32, workgroupSize } from "./kernel.ts";

export interface ConvertArgs {
  readonly from: Tensor; // f32, f16 or bf16; an even number of elements
  readonly to: Tensor; // as many elements, of another of these dtypes
}

/** The constants of shaders/lib/narrow_to.wgsl. */
export const FLOAT_CODES: Readonly<Partial<Record<DType, number>>> = { f32: 0, f16: 1, bf16: 2 };

/** Rounds to nearest, ties to even; one launch over the whole tensor. */
export const convert: Kernel<ConvertArgs> = defineKernel<ConvertArgs>({
  name: ({ from, to }) => `convert ${from.dtype} to ${to.dtype}`,
  sources: ["lib/float_bits.wgsl", "lib/narrow_to.wgsl", "convert.wgsl"],
  overrides: ({ from, to }, adapter) => ({
    WG_SIZE: workgroupSize(adapter, 64),
    FROM: FLOAT_CODES[from.dtype] ?? 0,
    TO: FLOAT_CODES[to.dtype] ?? 0,
  }),
  launch: ({ from, to }, adapter) => {
    expectDType("from", from, ["f32", "f16", "bf16"]);
    expectDType("to", to, ["f32", "f16", "bf16"]);
    if (from.dtype === to.dtype)
      throw new ShapeError(`to: expected another dtype than ${to.dtype}`);
    if (from.numElements % 2 !== 0 || from.numElements !== to.numElements) {
      throw new ShapeError(
        `to: expected as many elements as from, and an even number, got ${to.numElements} and ${from.numElements}`,
      );
    }
    const numPairs = from.numElements / 2;
    return {
      params: pack(u32(numPairs)),
      inputs: [from],
      outputs: [to],
      workgroups: spread(ceilDiv(numPairs, workgroupSize(adapter, 64)), adapter),
    };
  },
});
