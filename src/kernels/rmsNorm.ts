/** RMSNorm over the last axis; the shader is shaders/rms_norm.wgsl. */
import { expectShape, type Tensor } from "../device/device.ts";
import { defineKernel, f32, type Kernel, pack, u32, workgroupSize } from "./kernel.ts";

export interface RmsNormArgs {
  readonly x: Tensor; // [numTokens, hidden]
  readonly weight: Tensor; // [hidden]
  readonly out: Tensor; // [numTokens, hidden]; must not alias x
  readonly eps: number; // the checkpoint's rms_norm_eps, e.g. 1e-6
}

/** Records one launch over the live tokens: `rmsNorm(rec, args)`. */
export const rmsNorm: Kernel<RmsNormArgs> = defineKernel({
  name: "rms_norm",
  sources: ["lib/block_sum.wgsl", "rms_norm.wgsl"],
  overrides: (_args, adapter) => ({ WG_SIZE: workgroupSize(adapter, 256) }),
  launch: ({ x, weight, out, eps }) => {
    const [, hidden = 0] = x.shape;
    expectShape("weight", weight, [hidden]);
    expectShape("out", out, x.shape);
    return {
      params: pack(u32(hidden), f32(eps)),
      inputs: [x, weight],
      outputs: [out],
      workgroups: (live) => [live.numTokens, 1, 1],
    };
  },
});
