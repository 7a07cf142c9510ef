/**
 * A device that runs nothing and knows everything: Dawn's null backend checks WGSL as any other does, with
 * every feature. What is recorded on it collects the text of its kernels instead of pipelines.
 */
import { create, globals } from "webgpu";
import { type AdapterInfo, describeAdapter } from "../../src/device/adapterInfo.ts";
import { Device } from "../../src/device/device.ts";
import { nodeShaders } from "../../src/device/openNode.ts";
import type { PipelineEntry, PipelineSpec } from "../../src/device/pipelineCache.ts";

Object.assign(globalThis, globals);
/** Dawn crashes when this is collected while a device of it lives. */
const instance = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);

/** What an H200 says of itself, as far as kernels ask. */
const TENSOR_CORES = {
  hasF16Matrices: true,
  isSoftware: false,
  subgroupMinSize: 32,
  subgroupMaxSize: 32,
} as const;
const LIMITS = {
  maxComputeInvocationsPerWorkgroup: 1024,
  maxComputeWorkgroupSizeX: 1024,
  maxComputeWorkgroupStorageSize: 49_152,
} as const;

export class NullDevice extends Device {
  readonly specs: PipelineSpec[] = [];

  constructor(gpu: GPUDevice, info: AdapterInfo) {
    super(gpu, info, nodeShaders);
    this.pipelines.get = (spec): PipelineEntry => {
      this.specs.push(spec);
      const layout = gpu.createBindGroupLayout({ entries: [] });
      const ready = Promise.reject(new Error("a null device compiles no pipeline"));
      ready.catch(() => undefined);
      return { label: spec.label, layout, ready, get: () => gpu as unknown as GPUComputePipeline };
    };
  }

  /** What is wrong with the kernels recorded so far, by name. */
  async errors(): Promise<string[]> {
    const found = this.specs.map(async ({ label, code }) => {
      this.gpu.pushErrorScope("validation");
      const module = this.gpu.createShaderModule({ code });
      const { messages } = await module.getCompilationInfo();
      await this.gpu.popErrorScope();
      const errors = messages.filter(({ type }) => type === "error");
      return errors.map(({ lineNum, message }) => `${label}, line ${lineNum}: ${message}`);
    });
    return (await Promise.all(found)).flat();
  }
}

/** An adapter with the tensor cores of a large GPU. */
export async function openNullDevice(): Promise<NullDevice> {
  const adapter = await instance.requestAdapter();
  if (adapter === null) throw new Error("Dawn has no null backend");
  const described = describeAdapter(adapter, "null");
  const { features, limits } = described;
  const gpu = await adapter.requestDevice({ requiredFeatures: features as GPUFeatureName[] });
  return new NullDevice(gpu, { ...described, ...TENSOR_CORES, limits: { ...limits, ...LIMITS } });
}
