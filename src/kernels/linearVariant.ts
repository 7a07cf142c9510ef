/**
 * Which shader computes a linear layer, and with which sizes: one pure function of the shapes, the
 * dtype and the adapter.
 *
 * Software adapters (2 cores; lavapipe runs 8 lanes in SIMD, SwiftShader 4): a load that differs
 * between lanes is a scalar load a lane, and a barrier is a switch of coroutines. So a lane takes
 * whole rows, nothing is shared, and sums of several tokens pay for each load of weights. CPU time
 * on both cores of the linear layers of one pass of the 5M-parameter demo model (hidden 256, 6
 * layers, vocabulary 4096; bf16), in ms, at 1, 8 and 64 tokens:
 *
 *   kernel                         lavapipe               SwiftShader
 *   lanes 1, tokens 1              MEASURED
 *
 * Hardware: lanes of a workgroup read a row side by side, 16 bytes each, four rows at a time. Sizes
 * there follow from the shapes, not from measurements: 64 lanes read 512 elements at a time, so
 * narrow matrices take 32.
 */
import type { WeightDType } from "../common/dtype.ts";
import type { AdapterInfo } from "../device/device.ts";

/** shaders/linear_gemv.wgsl: few tokens a workgroup. A lane group sums four rows of the weight. */
export interface GemvVariant {
  readonly kind: "gemv";
  /** Tokens that a workgroup sums; more tokens take more workgroups. */
  readonly tokens: 1 | 4 | 8;
  readonly workgroupSize: number;
  /**
   * alone: a lane takes four rows by itself. Else the whole workgroup takes four rows, and its
   * lanes add up their sums over workgroup memory or by subgroup operations.
   */
  readonly rowSum: "alone" | "memory" | "subgroup";
  /** load: each lane loads its activations. broadcast: lanes that need the same share a load. */
  readonly activations: "load" | "broadcast";
}

/** shaders/linear_gemm.wgsl: tiles of 64 tokens by 64 rows, 256 lanes. */
export interface GemmVariant {
  readonly kind: "gemm";
}

export type LinearVariant = GemvVariant | GemmVariant;

/** A variant and the live rows for which it runs; both ends included. */
export interface LinearChoice {
  readonly variant: LinearVariant;
  readonly minRows: number;
  readonly maxRows: number;
}

export interface LinearShape {
  /** Rows that x and out have room for. */
  readonly capacity: number;
  /** Rows of the weight; with swiglu, gate and up rows together. */
  readonly outFeatures: number;
  readonly inFeatures: number;
  readonly dtype: WeightDType;
}

/** What an adapter must say of itself; a part of AdapterInfo, so that tests can make one up. */
export type LinearAdapter = Pick<AdapterInfo, "isSoftware" | "hasSubgroups" | "subgroupMinSize">;

/** Rows of the weight that a lane group sums. */
export const ROWS_PER_LANE_GROUP = 4;

/** Tokens and rows of the weight in a tile of linear_gemm. */
export const GEMM_TILE = 64;

/** From here on a tile is at least half full, and reading the weights once more costs more. */
const GEMM_MIN_ROWS = 33;

/**
 * The variants to record. They split the live rows from 1 to `capacity` between them, so that a
 * replay runs exactly one: the count is known only then, and a skipped launch costs nothing.
 */
export function linearVariants(
  shape: LinearShape,
  adapter: LinearAdapter,
): readonly LinearChoice[] {
  const all = adapter.isSoftware ? softwareChoices(adapter) : hardwareChoices(shape, adapter);
  return all.filter(({ minRows }) => minRows <= shape.capacity);
}

/** Lane groups of a workgroup: each sums four rows. */
export function laneGroupsOf(variant: GemvVariant): number {
  return variant.rowSum === "alone" ? variant.workgroupSize : 1;
}

/** True where the shader says `enable subgroups`. */
export function needsSubgroups(variant: LinearVariant): boolean {
  if (variant.kind === "gemm") return false;
  return variant.rowSum === "subgroup" || variant.activations === "broadcast";
}

function softwareChoices({ hasSubgroups, subgroupMinSize }: LinearAdapter): LinearChoice[] {
  const activations = hasSubgroups && subgroupMinSize >= 4 ? "broadcast" : "load";
  const alone = { kind: "gemv", workgroupSize: 32, rowSum: "alone", activations } as const;
  return [
    { variant: { ...alone, tokens: 1 }, minRows: 1, maxRows: 1 },
    { variant: { ...alone, tokens: 4 }, minRows: 2, maxRows: Infinity },
  ];
}

function hardwareChoices(shape: LinearShape, { hasSubgroups }: LinearAdapter): LinearChoice[] {
  const shared = {
    kind: "gemv",
    workgroupSize: shape.inFeatures >= 2048 ? 64 : 32,
    rowSum: hasSubgroups ? "subgroup" : "memory",
    activations: "load",
  } as const;
  return [
    { variant: { ...shared, tokens: 1 }, minRows: 1, maxRows: 1 },
    { variant: { ...shared, tokens: 4 }, minRows: 2, maxRows: 4 },
    { variant: { ...shared, tokens: 8 }, minRows: 5, maxRows: GEMM_MIN_ROWS - 1 },
    { variant: { kind: "gemm" }, minRows: GEMM_MIN_ROWS, maxRows: Infinity },
  ];
}
