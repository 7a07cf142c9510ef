/** A weight from one dtype to another; the shader is shaders/convert.wgsl. */
import { ShapeError } from "../common/errors.ts";
import { expectDType, expectShape, type Tensor } from "../device/device.ts";
import { defineKernel, type Kernel, pack, spread, u32, workgroupSize } from "./kernel.ts";

export interface ConvertArgs {
  readonly from: Tensor; // any shape of a multiple of 8 elements; f32, f16 or bf16
  readonly to: Tensor; // the same shape; f32, f16 or bf16
}

/** Records one launch. Rounds to nearest, ties to even; f16 follows pack2x16float, past 65,504 it is undefined. */
export const convert: Kernel<ConvertArgs> = defineKernel({
  name: ({ from, to }) => `convert ${from.dtype} to ${to.dtype}`,
  sources: ({ from, to }) => [
    `lib/weights_${from.dtype}.wgsl`,
    `lib/store8_${to.dtype}.wgsl`,
    "convert.wgsl",
  ],
  overrides: (_args, adapter) => ({ WG_SIZE: workgroupSize(adapter, 256) }),
  launch: ({ from, to }, adapter) => {
    expectDType("from", from, ["f32", "f16", "bf16"]);
    expectDType("to", to, ["f32", "f16", "bf16"]);
    expectShape("to", to, from.shape);
    if (from.numElements % 8 !== 0) {
      throw new ShapeError(`from: expected a multiple of 8 elements, got ${from.numElements}`);
    }
    const chunks = from.numElements / 8;
    return {
      params: pack(u32(chunks)),
      inputs: [from],
      outputs: [to],
      workgroups: spread(Math.ceil(chunks / workgroupSize(adapter, 256)), adapter),
    };
  },
});
