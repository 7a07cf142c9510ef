/** Linear layers on tensor cores; shaders/linear_matrix*.wgsl, to_halves.wgsl. */
import { ShapeError } from "../common/errors.ts";
import { ceilDiv, roundUp } from "../common/math.ts";
import type { AdapterInfo, Tensor } from "../device/device.ts";
import type { LaunchCounts } from "../device/liveCounts.ts";
import type { Recorder } from "../device/recorder.ts";
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

/** Tokens, and rows of the weight, in a tile. */
export const MATRIX_TILE = 128;
/** Of k in a tile. */
const K_TILE = 64;
/** Of the largest workgroup, linear_matrix_wide's. */
const LANES = 256;
const TILE_BYTES = 2 * MATRIX_TILE * 9 * 16;

/** True where the adapter runs shaders/linear_matrix.wgsl: f16 matrices over subgroups of 32 lanes. */
export function hasMatrixKernel(
  adapter: Pick<AdapterInfo, "hasF16Matrices" | "subgroupMinSize" | "subgroupMaxSize" | "limits">,
): boolean {
  const { maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupStorageSize } = adapter.limits;
  return (
    adapter.hasF16Matrices &&
    adapter.subgroupMinSize === 32 &&
    adapter.subgroupMaxSize === 32 &&
    maxComputeInvocationsPerWorkgroup >= LANES &&
    maxComputeWorkgroupStorageSize >= TILE_BYTES
  );
}

/** Tokens in a tile of linear_matrix_few and linear_matrix_wide; rows of the weight in the first. */
const FEW_TILE = 32;

/** Capacities below have outputs that may be too small to bind; see MIN_MATRIX_OUT_BYTES. */
const MIN_HALVES_CAPACITY = 32;

/**
 * True where the linear layers of a list multiply on tensor cores alone: kernels before them then
 * write activations as f16, `halvesRows(capacity)` rows of them.
 */
export function takesHalves(adapter: AdapterInfo, capacity: number): boolean {
  return capacity >= MIN_HALVES_CAPACITY && hasMatrixKernel(adapter);
}

/** Rows that an f16 input has: whole tiles, of which those past the live ones hold anything. */
export function halvesRows(capacity: number): number {
  return roundUp(capacity, capacity <= MAX_FEW_TOKENS ? FEW_TILE : MATRIX_TILE);
}

/** Room for what a linear layer reads: f16 where tensor cores alone do. shape: [capacity, inFeatures] */
export function allocLinearInput(rec: Recorder, label: string, shape: readonly number[]): Tensor {
  const [capacity = 0, inFeatures = 0] = shape;
  if (!takesHalves(rec.device.info, capacity)) return rec.alloc(label, shape);
  return rec.alloc(label, [halvesRows(capacity), inFeatures], "f16");
}

/** WebGPU asks of a binding that a matrix of f32, 16 x 16, can be stored in it. */
export const MIN_MATRIX_OUT_BYTES = 1024;

/** The live rows for which a launch runs; a replay outside skips it. */
export interface RowRange {
  readonly minRows: number;
  readonly maxRows: number;
}

/** `many` takes tiles of 128 tokens; `few`, for batched decode, 32 tokens at a time. */
export type MatrixKind = "many" | "few";

/** Past this many tokens `few` would read the weights a third time. */
export const MAX_FEW_TOKENS = 64;

/** Records the conversion of x unless it is f16, and one launch a part of the weight. */
export function linearMatrix(
  rec: Recorder,
  args: LinearArgs,
  range: RowRange,
  kind: MatrixKind = "many",
): void {
  const halves = args.x.dtype === "f16" ? args.x : convertedInput(rec, args, range);
  for (const part of args.weight.parts) {
    const [numRows = 0] = part.tensor.shape;
    const isWide = numRows >= WIDE_MIN_TILES * WIDE_ROWS;
    const record = kind === "many" ? matrixPart : isWide ? widePart : fewPart;
    record(rec, { ...args, halves, range, part, splits: 1 });
  }
}

/**
 * y as sums over parts of k, for the next kernel to add: out [splits * capacity, outFeatures], at most
 * MAX_FEW_TOKENS live rows. One launch, and one more to convert x unless it is f16; see `splitsOf`.
 */
export function linearSplit(rec: Recorder, args: LinearArgs, splits: number): void {
  const [part] = args.weight.parts;
  if (part === undefined || args.weight.parts.length > 1 || args.bias !== undefined) {
    throw new ShapeError("linearSplit: expected a weight in one part, and no bias");
  }
  const range = { minRows: 1, maxRows: MAX_FEW_TOKENS };
  const halves = args.x.dtype === "f16" ? args.x : convertedInput(rec, args, range);
  widePart(rec, { ...args, halves, range, part, splits });
}

/**
 * Parts of k for linearSplit that give a GPU workgroups to hide the latency of loads with; 1 where the
 * weight has rows enough, or the layer is none for linearSplit. NVIDIA H200, 32 tokens, f16; us a launch:
 *
 *   rows x in      few   wide, splits 1    2     4     8
 *    3072 x 2048  10.3         23.0     13.8   9.6   9.0
 *    2048 x 2048   9.8         23.4     13.5   9.0   7.3
 *   16384 x 2048  34.9         29.6     24.8  26.9  32.9
 *    2048 x 8192  27.6         83.0     42.9  25.0  17.3
 *    6144 x 4096  31.1         44.3     27.7  21.7  24.7
 *    4096 x 4096  17.6         42.5     24.8  17.2  14.8
 *   28672 x 4096   106         71.5     72.9  79.4  83.1
 *   4096 x 14336  51.4          139     77.4  49.0  37.1
 */
export function splitsOf(adapter: AdapterInfo, args: SplitShape): number {
  const { weight, capacity, hasBias } = args;
  const isFew = takesHalves(adapter, capacity) && capacity <= MAX_FEW_TOKENS;
  if (!isFew || hasBias || weight.parts.length > 1) return 1;
  const tiles = ceilDiv(weight.outFeatures, WIDE_ROWS);
  if (tiles >= WIDE_MIN_TILES) return 1;
  return tiles > 32 ? 4 : 8;
}

interface SplitShape {
  readonly weight: LinearArgs["weight"];
  readonly capacity: number;
  readonly hasBias: boolean;
}

function convertedInput(rec: Recorder, args: LinearArgs, range: RowRange): Tensor {
  const [capacity = 0, inFeatures = 0] = args.x.shape;
  const halves = rec.alloc("x as f16", [halvesRows(capacity), inFeatures], "f16");
  toHalves(rec, { ...args, halves, range });
  return halves;
}

interface HalvesArgs extends LinearArgs {
  readonly halves: Tensor; // [capacity rounded up to 128, inFeatures] f16
  readonly range: RowRange;
}

function liveRows({ rows, range }: HalvesArgs, live: LaunchCounts): number {
  const count = rows === "samples" ? live.numSamples : live.numTokens;
  return count < range.minRows || count > range.maxRows ? 0 : count;
}

const toHalves: Kernel<HalvesArgs> = defineKernel({
  name: "to_halves",
  sources: ["lib/live.wgsl", "to_halves.wgsl"],
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

interface PartArgs extends HalvesArgs {
  readonly part: WeightPart;
  /** Parts of k; see linearSplit. */
  readonly splits: number;
}

/** Whole tiles without an epilogue: the shader stores its matrices straight into `out`. */
function isDirect({ out, bias, activation, part }: PartArgs): boolean {
  const [capacity = 0] = out.shape;
  const [numRows = 0] = part.tensor.shape;
  const isWhole = capacity % MATRIX_TILE === 0 && numRows % MATRIX_TILE === 0;
  return isWhole && out.dtype === "f32" && bias === undefined && activation !== "swiglu";
}

/** Of the loops over k of linear_matrix and linear_matrix_wide. */
const LOOP_SOURCES = ["lib/linear_slice.wgsl", "lib/stagger.wgsl"] as const;

/** What those loops vary by. */
function loopOverrides({ weight, stagger }: PartArgs): Record<string, number> {
  const { steps = 0, phases = 1 } = stagger ?? {};
  return {
    WHOLE_K: Number(weight.inFeatures % K_TILE === 0),
    STAGGER: steps,
    PHASES: phases,
  };
}

const matrixPart: Kernel<PartArgs> = defineKernel({
  name: "linear_matrix",
  sources: (args) => [...sharedSources(args), ...LOOP_SOURCES, "linear_matrix.wgsl"],
  prelude: () => MATRIX_PRELUDE,
  overrides: (args) => ({ DIRECT: Number(isDirect(args)), ...loopOverrides(args) }),
  launch: (args) => {
    const [numRows = 0] = args.part.tensor.shape;
    const tiles = ceilDiv(numRows, MATRIX_TILE); // with swiglu 64 gate rows and their ups each
    return {
      ...bindings(args),
      workgroups: (live) => [ceilDiv(liveRows(args, live), MATRIX_TILE), tiles, 1],
    };
  },
});

function sharedSources({ part, out }: PartArgs): string[] {
  return [
    "lib/live.wgsl",
    "lib/silu.wgsl",
    "lib/linear_io.wgsl",
    "lib/linear_common.wgsl",
    "lib/linear_store.wgsl",
    `lib/linear_out_${out.dtype}.wgsl`,
    "lib/linear_tile.wgsl",
    `lib/halves_${part.tensor.dtype}.wgsl`,
  ];
}

/** What the shaders bind: lib/linear_io.wgsl. */
function bindings(args: PartArgs): Omit<KernelLaunch, "workgroups"> {
  const { bias, out, part, halves } = args;
  return {
    params: pack(...linearFields(args, out.shape[1] ?? 0)),
    inputs: [halves, part.tensor, bias ?? halves],
    outputs: [out],
  };
}

const fewPart: Kernel<PartArgs> = defineKernel({
  name: "linear_matrix_few",
  sources: (args) => [...sharedSources(args), "linear_matrix_few.wgsl"],
  prelude: () => MATRIX_PRELUDE,
  launch: (args, adapter) => {
    const [numRows = 0] = args.part.tensor.shape; // with swiglu 16 gate rows and their ups each
    const [x, y] = spread(ceilDiv(numRows, FEW_TILE), adapter);
    return {
      ...bindings(args),
      workgroups: (live) => [x, y, ceilDiv(liveRows(args, live), FEW_TILE)],
    };
  },
});

/** Rows of the weight in a tile of linear_matrix_wide. */
const WIDE_ROWS = 128;

/** From here on the tiles alone are workgroups enough. */
const WIDE_MIN_TILES = 100;

const widePart: Kernel<PartArgs> = defineKernel({
  name: "linear_matrix_wide",
  sources: (args) => [...sharedSources(args), ...LOOP_SOURCES, "linear_matrix_wide.wgsl"],
  prelude: ({ splits, out }) =>
    `${MATRIX_PRELUDE}
const SPLITS = ${splits}u;
const SPLIT_ROWS = ${(out.shape[0] ?? 0) / splits}u;`,
  overrides: loopOverrides,
  launch: (args, adapter) => {
    const [numRows = 0] = args.part.tensor.shape; // with swiglu 64 gate rows and their ups each
    const [x, y] = spread(ceilDiv(numRows, WIDE_ROWS), adapter);
    return {
      ...bindings(args),
      workgroups: (live) => [x, y, args.splits * ceilDiv(liveRows(args, live), FEW_TILE)],
    };
  },
});

/** Dawn's analysis does not know that `subgroup_id` is the same on all lanes of a subgroup. */
export const MATRIX_PRELUDE = [
  "enable f16;",
  "enable subgroups;",
  "enable chromium_experimental_subgroup_matrix;",
  "diagnostic(off, chromium.subgroup_matrix_uniformity);",
].join("\n");
