/** The kernels of linear layers on tensor cores: shaders/linear_matrix*.wgsl, to_halves.wgsl. */
import { ceilDiv } from "../common/math.ts";
import type { Tensor } from "../device/device.ts";
import type { LaunchCounts } from "../device/liveCounts.ts";
import { numFeatures } from "./activationTiles.ts";
import {
  defineKernel,
  type Kernel,
  type KernelLaunch,
  pack,
  spread,
  u32,
  workgroupSize,
} from "./kernel.ts";
import type { LinearArgs, WeightPart } from "./linear.ts";
import { linearFields } from "./linearParams.ts";

/** Tokens, and rows of the weight, in a tile of linear_matrix and linear_matrix_stream. */
export const MATRIX_TILE = 128;
/** Tokens in a tile of linear_matrix_few and linear_matrix_wide; rows of the weight in the first. */
export const FEW_TILE = 32;
/** Of k in a slice. */
const SLICE = 64;

/** The live rows for which a launch runs; a replay outside skips it. */
export interface RowRange {
  readonly minRows: number;
  readonly maxRows: number;
}

export interface HalvesArgs extends LinearArgs {
  readonly halves: Tensor; // [capacity rounded up to whole tiles, inFeatures] f16 in tiles
  readonly range: RowRange;
}

export interface PartArgs extends HalvesArgs {
  readonly part: WeightPart;
  /** Parts of k; see linearSplit. */
  readonly splits: number;
  /** Of linear_matrix_wide, in place of wideRows. */
  readonly tileRows?: 64 | 128 | undefined;
}

/** Dawn's analysis does not know that `subgroup_id` is the same on all lanes of a subgroup. */
export const MATRIX_PRELUDE = [
  "enable f16;",
  "enable subgroups;",
  "enable chromium_experimental_subgroup_matrix;",
  "diagnostic(off, chromium.subgroup_matrix_uniformity);",
].join("\n");

function liveRows({ rows, range }: HalvesArgs, live: LaunchCounts): number {
  const count = rows === "samples" ? live.numSamples : live.numTokens;
  return count < range.minRows || count > range.maxRows ? 0 : count;
}

export const toHalves: Kernel<HalvesArgs> = defineKernel({
  name: "to_halves",
  sources: ["lib/live.wgsl", "lib/tiles.wgsl", "to_halves.wgsl"],
  overrides: (_args, adapter) => ({ WG_SIZE: workgroupSize(adapter, 256) }),
  launch: (args, adapter) => {
    const chunks = (args.x.shape[1] ?? 0) / 8;
    return {
      params: pack(u32(chunks), u32(args.rows === "samples" ? 1 : 0)),
      inputs: [args.x],
      outputs: [args.halves],
      workgroups: (live) =>
        spread(ceilDiv(liveRows(args, live) * chunks, workgroupSize(adapter, 256)), adapter),
    };
  },
});

function numRowsOf({ part }: PartArgs): number {
  return part.tensor.shape[0] ?? 0;
}

function sharedSources({ part, out }: PartArgs): string[] {
  return [
    "lib/live.wgsl",
    "lib/silu.wgsl",
    "lib/linear_io.wgsl",
    "lib/linear_common.wgsl",
    "lib/linear_store.wgsl",
    "lib/tiles.wgsl",
    `lib/linear_out_${out.dtype}.wgsl`,
    "lib/linear_tile.wgsl",
    `lib/halves_${part.tensor.dtype}.wgsl`,
  ];
}

/** What the shaders bind: lib/linear_io.wgsl. */
function bindings(args: PartArgs): Omit<KernelLaunch, "workgroups"> {
  const { bias, out, part, halves } = args;
  return {
    params: pack(...linearFields(args, numFeatures(out))),
    inputs: [halves, part.tensor, bias ?? halves],
    outputs: [out],
  };
}

/** Whole tiles without an epilogue: the shader stores its matrices straight into `out`. */
function isDirect(args: PartArgs, tileTokens: number, tileRows: number): boolean {
  const { out, bias, activation, splits } = args;
  const capacity = (out.shape[0] ?? 0) / splits;
  const isWhole = capacity % tileTokens === 0 && numRowsOf(args) % tileRows === 0;
  return isWhole && out.dtype === "f32" && bias === undefined && activation !== "swiglu";
}

/** How the slices of k fill the loops of linear_matrix_stream and linear_matrix_wide, two at a time. */
function sliceOverrides({ weight, splits }: PartArgs): Record<string, number> {
  return {
    WHOLE_K: Number(weight.inFeatures % SLICE === 0),
    EVEN: Number(weight.inFeatures % (2 * SLICE * splits) === 0),
  };
}

const tiles128 = (args: PartArgs): KernelLaunch["workgroups"] => {
  const rowTiles = ceilDiv(numRowsOf(args), MATRIX_TILE); // with swiglu 64 gate rows and their ups each
  return (live) => [ceilDiv(liveRows(args, live), MATRIX_TILE), rowTiles, 1];
};

/** Of all whose lanes share one slice of k in workgroup memory. */
const SLICE_SOURCES = [
  "lib/linear_slice.wgsl",
  "lib/linear_four.wgsl",
  "lib/linear_sums.wgsl",
] as const;

/** Prompts whose tiles are many. */
export const streamPart: Kernel<PartArgs> = defineKernel({
  name: "linear_matrix_stream",
  sources: (args) => [...sharedSources(args), ...SLICE_SOURCES, "linear_matrix_stream.wgsl"],
  prelude: () => MATRIX_PRELUDE,
  overrides: (args) => ({
    DIRECT: Number(isDirect(args, MATRIX_TILE, MATRIX_TILE)),
    ...sliceOverrides(args),
  }),
  launch: (args) => ({ ...bindings(args), workgroups: tiles128(args) }),
});

/** Prompts whose tiles are few. */
export const matrixPart: Kernel<PartArgs> = defineKernel({
  name: "linear_matrix",
  sources: (args) => [...sharedSources(args), ...SLICE_SOURCES, "linear_matrix.wgsl"],
  prelude: () => MATRIX_PRELUDE,
  overrides: (args) => ({
    DIRECT: Number(isDirect(args, MATRIX_TILE, MATRIX_TILE)),
    WHOLE_K: Number(args.weight.inFeatures % SLICE === 0),
  }),
  launch: (args) => ({ ...bindings(args), workgroups: tiles128(args) }),
});

/** Up to 64 tokens and few rows of the weight. */
export const fewPart: Kernel<PartArgs> = defineKernel({
  name: "linear_matrix_few",
  sources: (args) => [...sharedSources(args), "linear_matrix_few.wgsl"],
  prelude: () => MATRIX_PRELUDE,
  launch: (args, adapter) => {
    const [x, y] = spread(ceilDiv(numRowsOf(args), FEW_TILE), adapter); // with swiglu 16 gate rows and their ups each
    return {
      ...bindings(args),
      workgroups: (live) => [x, y, ceilDiv(liveRows(args, live), FEW_TILE)],
    };
  },
});

/** Workgroups of 64 rows that an H200 runs at once, three on each of 132 processors, less a few. */
export const MAX_NARROW_GROUPS = 384;

/** Rows of the weight in a tile of linear_matrix_wide: 64 unless those are more workgroups than run at once. */
function wideRows(args: PartArgs): 64 | 128 {
  const isNarrow = ceilDiv(numRowsOf(args), 64) * args.splits <= MAX_NARROW_GROUPS;
  return args.tileRows ?? (isNarrow ? 64 : 128);
}

/** Up to 64 tokens and many rows of the weight, or parts of k. */
export const widePart: Kernel<PartArgs> = defineKernel({
  name: "linear_matrix_wide",
  sources: (args) => [...sharedSources(args), ...SLICE_SOURCES, "linear_matrix_wide.wgsl"],
  prelude: (args) => `${MATRIX_PRELUDE}
const ROWS = ${wideRows(args)}u;
const SPLITS = ${args.splits}u;
const SPLIT_ROWS = ${(args.out.shape[0] ?? 0) / args.splits}u;`,
  overrides: (args) => ({
    DIRECT: Number(isDirect(args, FEW_TILE, wideRows(args))),
    ...sliceOverrides(args),
  }),
  launch: (args, adapter) => {
    const groups = ceilDiv(numRowsOf(args), wideRows(args)); // with swiglu half gate, half up rows
    const [y, z] = spread(groups, adapter);
    return {
      ...bindings(args),
      workgroups: (live) => [args.splits * ceilDiv(liveRows(args, live), FEW_TILE), y, z],
    };
  },
});
