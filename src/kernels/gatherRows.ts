/** Copies the rows that get logits; the shader is shaders/gather_rows.wgsl. */
import { ShapeError } from "../common/errors.ts";
import { ceilDiv } from "../common/math.ts";
import { expectDType, expectShape, type Tensor } from "../device/device.ts";
import { defineKernel, type Kernel, pack, u32, workgroupSize } from "./kernel.ts";

export interface GatherRowsArgs {
  readonly x: Tensor; // [capacity, hidden]
  readonly indices: Tensor; // [maxSamples] u32: rows of x
  readonly out: Tensor; // [maxSamples or fewer, hidden]
}

/** out[s] = x[indices[s]] for the live samples; one launch. */
export const gatherRows: Kernel<GatherRowsArgs> = defineKernel<GatherRowsArgs>({
  name: "gather_rows",
  sources: ["gather_rows.wgsl"],
  overrides: (_args, adapter) => ({ WG_SIZE: workgroupSize(adapter, 64) }),
  launch: ({ x, indices, out }, adapter) => {
    const [numRows = 0, hidden = 0] = x.shape;
    const [numOut = 0] = out.shape;
    expectShape("out", out, [numOut, hidden]);
    expectDType("indices", indices, ["u32"]);
    if (hidden % 4 !== 0)
      throw new ShapeError(`x: expected rows of a multiple of 4, got ${hidden}`);
    if (indices.numElements < numOut) {
      throw new ShapeError(`indices: expected ${numOut} or more, got ${indices.numElements}`);
    }
    const groups = ceilDiv(hidden / 4, workgroupSize(adapter, 64));
    return {
      params: pack(u32(hidden / 4), u32(numRows)),
      inputs: [x, indices],
      outputs: [out],
      workgroups: (live) => [groups, live.numSamples, 1],
    };
  },
});
