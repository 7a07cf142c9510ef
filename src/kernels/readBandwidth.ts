/** Reads a large buffer as a GEMV reads weights; shaders/read_bandwidth.wgsl. For measuring, not for models. */
import type { Tensor } from "../device/device.ts";
import { defineKernel, type Kernel, pack, spread, u32, workgroupSize } from "./kernel.ts";

export interface ReadBandwidthArgs {
  readonly x: Tensor; // [n] u32, n a multiple of 4
  readonly out: Tensor; // [numWorkgroups] u32
}

/** vec4<u32> that each lane reads. */
const LOADS_PER_LANE = 16;

/** Workgroups for `numWords` words, which is the size `out` needs. */
export function readWorkgroups(numWords: number, lanes: number): number {
  return Math.ceil(numWords / 4 / (lanes * LOADS_PER_LANE));
}

/** Records one launch. */
export const readBandwidth: Kernel<ReadBandwidthArgs> = defineKernel({
  name: "read_bandwidth",
  sources: ["read_bandwidth.wgsl"],
  prelude: () => `const LOADS = ${LOADS_PER_LANE}u;`,
  overrides: (_args, adapter) => ({ WG_SIZE: workgroupSize(adapter, 256) }),
  launch: ({ x, out }, adapter) => ({
    params: pack(u32(x.numElements / 4)),
    inputs: [x],
    outputs: [out],
    workgroups: spread(readWorkgroups(x.numElements, workgroupSize(adapter, 256)), adapter),
  }),
});
