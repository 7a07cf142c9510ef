/** Adds a deferred all-reduce to the residual stream, then RMSNorm; shaders/sum_residual_norm.wgsl and add_partials.wgsl. */
import { expectShape, type Tensor } from "../device/device.ts";
import { defineKernel, f32, type Kernel, pack, u32, workgroupSize } from "./kernel.ts";

/** Partial sums of all ranks, `strideElements` apart; see Reduction in collectives/communicator.ts. */
export interface Partials {
  readonly tensor: Tensor; // count x [numTokens, hidden], strideElements apart
  readonly count: number;
  readonly strideElements: number;
}

export interface SumResidualNormArgs {
  /** Left out where nothing is to be added. */
  readonly partials?: Partials;
  readonly residual: Tensor; // in and out [numTokens, hidden]
  readonly weight: Tensor; // [hidden]
  readonly out: Tensor; // [numTokens, hidden]
  readonly eps: number;
}

/** Records one launch: residual += sum over ranks, in rank order; out = norm(residual). */
export const sumResidualNorm: Kernel<SumResidualNormArgs> = defineKernel({
  name: "sum_residual_norm",
  sources: ["lib/block_sum.wgsl", "sum_residual_norm.wgsl"],
  overrides: (_args, adapter) => ({ WG_SIZE: workgroupSize(adapter, 256) }),
  launch: ({ partials, residual, weight, out, eps }) => {
    const [, hidden = 0] = residual.shape;
    expectShape("weight", weight, [hidden]);
    expectShape("out", out, residual.shape);
    return {
      params: pack(
        u32(hidden),
        f32(eps),
        u32(partials?.count ?? 0),
        u32(partials?.strideElements ?? 0),
      ),
      inputs: [partials?.tensor ?? weight, weight],
      outputs: [residual, out],
      workgroups: (live) => [live.numTokens, 1, 1],
    };
  },
});

export interface AddPartialsArgs {
  readonly partials: Partials;
  readonly residual: Tensor; // in and out [numTokens, hidden]
}

/** Records one launch: residual += sum over ranks, in rank order. */
export const addPartials: Kernel<AddPartialsArgs> = defineKernel({
  name: "add_partials",
  sources: ["add_partials.wgsl"],
  overrides: (_args, adapter) => ({ WG_SIZE: workgroupSize(adapter, 256) }),
  launch: ({ partials, residual }) => {
    const [, hidden = 0] = residual.shape;
    return {
      params: pack(u32(hidden), u32(partials.count), u32(partials.strideElements)),
      inputs: [partials.tensor],
      outputs: [residual],
      workgroups: (live) => [live.numTokens, 1, 1],
    };
  },
});
