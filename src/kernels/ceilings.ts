/**
 * Kernels that show what an adapter can reach at best, for the bounds beside measured figures; shaders
 * fma_rate.wgsl, matrix_rate.wgsl and tiny_dispatch.wgsl. Reads are in readBandwidth.ts.
 */
import { expectShape, type Tensor } from "../device/device.ts";
import { defineKernel, f32, type Kernel, pack, u32, workgroupSize } from "./kernel.ts";

export interface RateArgs {
  readonly out: Tensor; // [numWorkgroups], for matrices [numWorkgroups, MATRIX_RESULT_ELEMENTS]; f32
  /** Rounds that each lane or subgroup does. */
  readonly loops: number;
}

/** Lanes of a workgroup of fmaRate, where the adapter allows them. */
const FMA_LANES = 256;
/** Eight vec4, two operations each. */
const FMA_OPERATIONS = 8 * 4 * 2;
/** Elements that a workgroup of matrixRate writes: 4 subgroups, 8 matrices of 16 x 16. */
export const MATRIX_RESULT_ELEMENTS = 4 * 8 * 256;
/** 4 subgroups, eight products of 16 x 16 x 16, two operations each. */
const MATRIX_OPERATIONS = 4 * 8 * 2 * 16 ** 3;

/** Records one launch of f32 multiply-adds by lanes. */
export const fmaRate: Kernel<RateArgs> = defineKernel<RateArgs>({
  name: "fma_rate",
  sources: ["fma_rate.wgsl"],
  overrides: (_args, adapter) => ({ WG_SIZE: workgroupSize(adapter, FMA_LANES) }),
  launch: ({ out, loops }) => ({
    params: pack(u32(loops), f32(0.999), f32(0.5)),
    inputs: [],
    outputs: [out],
    workgroups: [out.numElements, 1, 1],
  }),
});

/** Operations of a launch of fmaRate. */
export function fmaOperations({ out, loops }: RateArgs, lanes: number): number {
  return out.numElements * lanes * loops * FMA_OPERATIONS;
}

/** Lanes of a workgroup of fmaRate on an adapter. */
export function fmaLanes(adapter: Parameters<typeof workgroupSize>[0]): number {
  return workgroupSize(adapter, FMA_LANES);
}

/** Records one launch of f16 matrix products; only where hasMatrixKernel(adapter). */
export const matrixRate: Kernel<RateArgs> = defineKernel<RateArgs>({
  name: "matrix_rate",
  sources: ["matrix_rate.wgsl"],
  prelude: () =>
    [
      "enable f16;",
      "enable subgroups;",
      "enable chromium_experimental_subgroup_matrix;",
      // Dawn's analysis does not know that `subgroup_id` is the same on all lanes of a subgroup
      "diagnostic(off, chromium.subgroup_matrix_uniformity);",
    ].join("\n"),
  launch: ({ out, loops }) => {
    const [numWorkgroups = 0] = out.shape;
    expectShape("out", out, [numWorkgroups, MATRIX_RESULT_ELEMENTS]);
    return {
      params: pack(u32(loops)),
      inputs: [],
      outputs: [out],
      workgroups: [numWorkgroups, 1, 1],
    };
  },
});

/** Operations of a launch of matrixRate. */
export function matrixOperations({ out, loops }: RateArgs): number {
  const [numWorkgroups = 0] = out.shape;
  return numWorkgroups * loops * MATRIX_OPERATIONS;
}

/** Records one launch that does nothing to speak of; `x` is [1] u32. */
export const tinyDispatch: Kernel<{ readonly x: Tensor }> = defineKernel<{ readonly x: Tensor }>({
  name: "tiny_dispatch",
  sources: ["tiny_dispatch.wgsl"],
  launch: ({ x }) => ({
    params: pack(u32(1)),
    inputs: [],
    outputs: [x],
    workgroups: [1, 1, 1],
  }),
});
