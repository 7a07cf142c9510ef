/** A launch with all that a replay needs: its pipeline, and its bind group over the list's uniforms. */
import { roundUp } from "../common/math.ts";
import type { Device } from "./device.ts";
import type { Launch } from "./launch.ts";
import { OFFSET_ALIGNMENT } from "./tensor.ts";

export interface BoundLaunch {
  readonly launch: Launch;
  readonly pipeline: GPUComputePipeline;
  readonly bindGroup: GPUBindGroup;
}

/** All uniforms of a list in one buffer, 256 bytes apart. */
export function packParams(device: Device, launches: readonly Launch[]): GPUBuffer {
  const offsets: number[] = [];
  let size = 0;
  for (const { params } of launches) {
    offsets.push(size);
    size += roundUp(Math.max(params.byteLength, 1), OFFSET_ALIGNMENT);
  }
  const bytes = new Uint8Array(Math.max(size, OFFSET_ALIGNMENT));
  launches.forEach(({ params }, index) => {
    bytes.set(params, offsets[index]);
  });
  const buffer = device.createUniform(bytes.byteLength, "params");
  device.gpu.queue.writeBuffer(buffer, 0, bytes);
  return buffer;
}

/** The launch at `index` of those that `params` was packed for. */
export function bindLaunch(
  device: Device,
  launch: Launch,
  params: GPUBuffer,
  index: number,
): BoundLaunch {
  // params are packed in order; each takes one alignment unit, as params stay under 256 bytes
  const uniform: GPUBufferBinding = {
    buffer: params,
    offset: index * OFFSET_ALIGNMENT,
    size: Math.max(roundUp(launch.params.byteLength, 16), 16),
  };
  const tensors = [...launch.inputs, ...launch.outputs].map((tensor) => tensor.binding());
  const entries = [uniform, ...tensors].map((resource, binding) => ({ binding, resource }));
  return {
    launch,
    pipeline: launch.pipeline.get(),
    bindGroup: device.createBindGroup(launch.label, launch.pipeline.layout, entries),
  };
}
