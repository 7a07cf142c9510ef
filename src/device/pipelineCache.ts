/** Compute pipelines, compiled asynchronously and once a device for each (source, overrides, bindings). */
import { DeviceError, messageOf } from "../common/errors.ts";

/** What makes a pipeline: equal keys share it. */
export interface PipelineSpec {
  readonly label: string;
  /** The whole WGSL text, prelude first. */
  readonly code: string;
  /** What the text is put together from, where that tells one from another: then it is read only to compile. */
  readonly origin?: string;
  readonly overrides: Readonly<Record<string, number>>;
  readonly numInputs: number;
  readonly numOutputs: number;
}

/** A pipeline that may still be compiling. */
export interface PipelineEntry {
  readonly label: string;
  readonly layout: GPUBindGroupLayout;
  readonly ready: Promise<GPUComputePipeline>;
  /** The compiled pipeline; throws before `ready` has resolved. */
  get(): GPUComputePipeline;
}

/** Called after each pipeline that finished compiling. */
export type CompileProgress = (done: number, total: number) => void;

/** One cache a device. */
export class PipelineCache {
  readonly #gpu: GPUDevice;
  readonly #liveLayout: GPUBindGroupLayout;
  readonly #entries = new Map<string, PipelineEntry>();
  readonly #layouts = new Map<string, GPUBindGroupLayout>();
  readonly #warm = new WeakSet<PipelineEntry>();
  /** Pipelines asked for so far. */
  numPipelines = 0;

  constructor(gpu: GPUDevice, liveLayout: GPUBindGroupLayout) {
    this.#gpu = gpu;
    this.#liveLayout = liveLayout;
  }

  /** The entry for a spec; starts compiling on first use. */
  get(spec: PipelineSpec): PipelineEntry {
    const { overrides, numInputs, numOutputs } = spec;
    const key = JSON.stringify([spec.origin ?? spec.code, overrides, numInputs, numOutputs]);
    const known = this.#entries.get(key);
    if (known !== undefined) return known;
    const entry = this.#compile(spec);
    this.#entries.set(key, entry);
    this.numPipelines += 1;
    return entry;
  }

  /** True once for each pipeline: for whoever dispatches it first (CommandList.warmUp). */
  claimWarmUp(entry: PipelineEntry): boolean {
    const isCold = !this.#warm.has(entry);
    this.#warm.add(entry);
    return isCold;
  }

  /** Waits until every pipeline asked for so far is compiled. */
  async ready(progress?: CompileProgress): Promise<void> {
    const entries = [...this.#entries.values()];
    let done = 0;
    await Promise.all(
      entries.map(async (entry) => {
        await entry.ready;
        done += 1;
        progress?.(done, entries.length);
      }),
    );
  }

  #compile(spec: PipelineSpec): PipelineEntry {
    const layout = this.#bindGroupLayout(spec.numInputs, spec.numOutputs);
    let pipeline: GPUComputePipeline | undefined;
    const ready = this.#create(spec, layout).then((compiled) => {
      pipeline = compiled;
      return compiled;
    });
    ready.catch(() => undefined); // reported by whoever awaits `ready`
    return {
      label: spec.label,
      layout,
      ready,
      get: () => {
        if (pipeline === undefined) throw new DeviceError(`${spec.label}: not compiled yet`);
        return pipeline;
      },
    };
  }

  async #create(spec: PipelineSpec, layout: GPUBindGroupLayout): Promise<GPUComputePipeline> {
    const module = this.#gpu.createShaderModule({ label: spec.label, code: spec.code });
    try {
      return await this.#gpu.createComputePipelineAsync({
        label: spec.label,
        layout: this.#gpu.createPipelineLayout({
          label: spec.label,
          bindGroupLayouts: [this.#liveLayout, layout],
        }),
        compute: { module, entryPoint: "main", constants: { ...spec.overrides } },
      });
    } catch (error) {
      const { messages } = await module.getCompilationInfo();
      const first = messages.find(({ type }) => type === "error");
      const where =
        first === undefined ? messageOf(error) : `line ${first.lineNum}: ${first.message}`;
      throw new DeviceError(`kernel ${spec.label} does not compile: ${where}`, { cause: error });
    }
  }

  #bindGroupLayout(numInputs: number, numOutputs: number): GPUBindGroupLayout {
    const key = `${numInputs},${numOutputs}`;
    const known = this.#layouts.get(key);
    if (known !== undefined) return known;
    const types: GPUBufferBindingType[] = [
      "uniform",
      ...Array.from({ length: numInputs }, () => "read-only-storage" as const),
      ...Array.from({ length: numOutputs }, () => "storage" as const),
    ];
    const layout = this.#gpu.createBindGroupLayout({
      label: `${numInputs} inputs, ${numOutputs} outputs`,
      entries: types.map((type, binding) => ({
        binding,
        visibility: 4, // GPUShaderStage.COMPUTE
        buffer: { type },
      })),
    });
    this.#layouts.set(key, layout);
    return layout;
  }
}
