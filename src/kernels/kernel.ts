/** How a kernel is declared: WGSL files, what varies, and the arguments of one launch. */
import { ShapeError } from "../common/errors.ts";
import type { AdapterInfo, Tensor } from "../device/device.ts";
import type { WorkgroupCount } from "../device/launch.ts";
import type { LaunchCounts } from "../device/liveCounts.ts";
import { OFFSET_ALIGNMENT } from "../device/tensor.ts";
import type { Recorder } from "../device/recorder.ts";

/** One 4-byte field of a kernel's `Params`. */
export interface Field {
  readonly type: "u32" | "i32" | "f32";
  readonly value: number;
}

export const u32 = (value: number): Field => ({ type: "u32", value });
export const i32 = (value: number): Field => ({ type: "i32", value });
export const f32 = (value: number): Field => ({ type: "f32", value });

/** Fields in the order of the shader's `struct Params`; scalars only, so WGSL adds no padding between them. */
export function pack(...fields: readonly Field[]): Uint8Array {
  if (fields.length * 4 > OFFSET_ALIGNMENT) {
    throw new ShapeError(`params: ${fields.length} fields; ${OFFSET_ALIGNMENT / 4} fit a uniform`);
  }
  const bytes = new Uint8Array(fields.length * 4);
  const view = new DataView(bytes.buffer);
  fields.forEach(({ type, value }, index) => {
    if (type === "f32") view.setFloat32(index * 4, value, true);
    else if (type === "i32") view.setInt32(index * 4, value, true);
    else view.setUint32(index * 4, value, true);
  });
  return bytes;
}

/** What one launch binds and how far it reaches. */
export interface KernelLaunch {
  readonly params: Uint8Array;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly workgroups: WorkgroupCount | ((live: LaunchCounts) => WorkgroupCount);
}

/** A kernel varies by its prelude, its overrides and its params, and by nothing else. */
export interface KernelDefinition<Args> {
  /** Label in errors, profiles and captures. */
  readonly name: string | ((args: Args) => string);
  /** Files under shaders/, concatenated after the prelude. */
  readonly sources: readonly string[] | ((args: Args, adapter: AdapterInfo) => readonly string[]);
  /** Types and `const` sizes that an override cannot express. */
  readonly prelude?: (args: Args, adapter: AdapterInfo) => string;
  readonly overrides?: (args: Args, adapter: AdapterInfo) => Readonly<Record<string, number>>;
  /** Checks shapes and returns the launch; throws ShapeError. */
  readonly launch: (args: Args, adapter: AdapterInfo) => KernelLaunch;
}

/** Records one launch. */
export type Kernel<Args> = (rec: Recorder, args: Args) => void;

/** Turns a declaration into the function that layers call. */
export function defineKernel<Args>(definition: KernelDefinition<Args>): Kernel<Args> {
  return (rec, args) => {
    const { info, shaders, pipelines } = rec.device;
    const launch = definition.launch(args, info);
    const sources =
      typeof definition.sources === "function"
        ? definition.sources(args, info)
        : definition.sources;
    const prelude = definition.prelude?.(args, info) ?? "";
    const label = typeof definition.name === "function" ? definition.name(args) : definition.name;
    const pipeline = pipelines.get({
      label,
      origin: [prelude, ...sources].join("\n"),
      get code() {
        return [prelude, ...sources.map(shaders)].join("\n"); // of a new pipeline only
      },
      overrides: definition.overrides?.(args, info) ?? {},
      numInputs: launch.inputs.length,
      numOutputs: launch.outputs.length,
    });
    rec.launch({ label, pipeline, ...launch });
  };
}

/** Lanes of a workgroup: `wanted`, or what the adapter allows. */
export function workgroupSize(adapter: AdapterInfo, wanted: number): number {
  const { maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX } = adapter.limits;
  return Math.min(wanted, maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX);
}

/**
 * `count` workgroups over x and y, because a dimension ends at 65,535; the shader takes
 * `group.x + group.y * num_groups.x` and returns where that is past the end.
 */
export function spread(count: number, adapter: AdapterInfo): WorkgroupCount {
  const limit = adapter.limits.maxComputeWorkgroupsPerDimension;
  if (count <= limit) return [count, 1, 1];
  const rows = Math.ceil(count / limit);
  return [Math.ceil(count / rows), rows, 1];
}
