/** Picks the rows that get logits; the shader is shaders/gather_rows.wgsl. */
import { expectShape, type Tensor } from "../device/device.ts";
import { defineKernel, type Kernel, pack, u32, workgroupSize } from "./kernel.ts";

export interface GatherRowsArgs {
  readonly x: Tensor; // [numTokens, hidden]
  readonly indices: Tensor; // [maxSamples] u32: rows of x
  readonly out: Tensor; // [maxSamples, hidden]
}

/** Records one launch over the live samples: out[i] = x[indices[i]]. */
export const gatherRows: Kernel<GatherRowsArgs> = defineKernel({
  name: "gather_rows",
  sources: ["gather_rows.wgsl"],
  overrides: (_args, adapter) => ({ WG_SIZE: workgroupSize(adapter, 256) }),
  launch: ({ x, indices, out }) => {
    const [, hidden = 0] = x.shape;
    expectShape("out", out, [indices.numElements, hidden]);
    return {
      params: pack(u32(hidden)),
      inputs: [x, indices],
      outputs: [out],
      workgroups: (live) => [live.numSamples, 1, 1],
    };
  },
});
