/** What Tandem knows of an adapter, and what it asks of a device on it. */
import { AdapterError } from "../common/errors.ts";
import type { PhysicalDevice } from "./physicalDevice.ts";

/** Features used where the adapter has them; every use has a fallback. */
const WANTED_FEATURES: readonly string[] = [
  "shader-f16",
  "subgroups",
  "timestamp-query",
  "chromium-experimental-subgroup-matrix",
];

/** Limits that kernels read; all others stay at their defaults. Asked at the adapter's maximum. */
const WANTED_LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupSizeZ",
  "maxComputeWorkgroupsPerDimension",
] as const satisfies readonly (keyof GPUSupportedLimits)[];

/** The least that every kernel can run with; WebGPU guarantees these as defaults. */
const LEAST_STORAGE_BUFFERS = 8;

/** A limit of WANTED_LIMITS by name. */
export type LimitName = (typeof WANTED_LIMITS)[number];

/**
 * Numbers measured to be best on one adapter, by what they are for: kernels name both the entries and their
 * fields, and take no number that they would not have chosen themselves.
 */
export type TunedNumbers = Readonly<Record<string, Readonly<Record<string, number>>>>;

/** Plain, cloneable facts of one adapter. */
export interface AdapterInfo {
  /** As Dawn names it, e.g. "NVIDIA H200"; browsers give only the architecture. */
  readonly name: string;
  readonly vendor: string;
  readonly architecture: string;
  readonly description: string;
  readonly features: readonly string[];
  readonly limits: Readonly<Record<LimitName, number>>;
  readonly minStorageBufferOffsetAlignment: number;
  readonly hasF16: boolean;
  readonly hasSubgroups: boolean;
  readonly hasTimestamps: boolean;
  /** Subgroup matrices of f16, 16 x 16 x 16, that accumulate in f32. */
  readonly hasF16Matrices: boolean;
  /** 0 where the adapter has no subgroups. */
  readonly subgroupMinSize: number;
  readonly subgroupMaxSize: number;
  /** True for SwiftShader, lavapipe and other CPU implementations. */
  readonly isSoftware: boolean;
  /** The GPU behind it; null in a page, and in Node where the device layer is not at work. */
  readonly physical: PhysicalDevice | null;
  /** What autotuning found; kernels have defaults for all that it leaves out. */
  readonly tuned?: TunedNumbers | undefined;
}

/** Reads an adapter's facts; `name` and `physical` are what the opener knows of it. */
export function describeAdapter(
  adapter: GPUAdapter,
  name: string,
  physical: PhysicalDevice | null = null,
): AdapterInfo {
  const info = adapter.info;
  const features = WANTED_FEATURES.filter((feature) => adapter.features.has(feature));
  const hasSubgroups = features.includes("subgroups");
  const limits = Object.fromEntries(
    WANTED_LIMITS.map((limit) => [limit, adapter.limits[limit]]),
  ) as Record<LimitName, number>;
  return {
    name,
    vendor: info.vendor,
    architecture: info.architecture,
    description: info.description,
    features,
    limits,
    minStorageBufferOffsetAlignment: adapter.limits.minStorageBufferOffsetAlignment,
    hasF16: features.includes("shader-f16"),
    hasSubgroups,
    hasTimestamps: features.includes("timestamp-query"),
    hasF16Matrices: hasF16Matrices(info, features),
    subgroupMinSize: hasSubgroups ? info.subgroupMinSize : 0,
    subgroupMaxSize: hasSubgroups ? info.subgroupMaxSize : 0,
    isSoftware: info.isFallbackAdapter || info.vendor === "google" || isLavapipe(info),
    physical,
  };
}

/** As Dawn lists them; not in @webgpu/types yet. */
interface MatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

function hasF16Matrices(info: GPUAdapterInfo, features: readonly string[]): boolean {
  if (!features.includes("chromium-experimental-subgroup-matrix")) return false;
  if (!features.includes("shader-f16")) return false;
  const { subgroupMatrixConfigs = [] } = info as { subgroupMatrixConfigs?: MatrixConfig[] };
  return [...subgroupMatrixConfigs].some(
    ({ componentType, resultComponentType, M, N, K }) =>
      componentType === "f16" && resultComponentType === "f32" && M === 16 && N === 16 && K === 16,
  );
}

function isLavapipe(info: GPUAdapterInfo): boolean {
  return info.vendor === "mesa" && info.architecture === "software";
}

/** The descriptor for requestDevice: the features and limits above, nothing more. */
export function deviceDescriptor(info: AdapterInfo, label: string): GPUDeviceDescriptor {
  const buffers = info.limits.maxStorageBuffersPerShaderStage;
  if (buffers < LEAST_STORAGE_BUFFERS) {
    throw new AdapterError({
      what: `${info.name}: maxStorageBuffersPerShaderStage`,
      expected: `at least ${LEAST_STORAGE_BUFFERS}`,
      got: buffers,
      remedy: "choose another device with --devices",
    });
  }
  return {
    label,
    requiredFeatures: info.features as GPUFeatureName[],
    requiredLimits: { ...info.limits },
  };
}
