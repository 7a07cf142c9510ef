/** Linear layers on tensor cores; shaders/linear_matrix.wgsl, linear_matrix_few.wgsl, to_halves.wgsl. */
import { ceilDiv, roundUp } from "../common/math.ts";
import type { AdapterInfo, Tensor } from "../device/device.ts";
import type { LiveCounts } from "../device/liveCounts.ts";
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

/** Tokens, and rows of the weight, in a tile; 64 of k. */
export const MATRIX_TILE = 128;
const LANES = 512;
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

/** WebGPU asks of a binding that a matrix of f32, 16 x 16, can be stored in it. */
export const MIN_MATRIX_OUT_BYTES = 1024;

/** The live rows for which a launch runs; a replay outside skips it. */
export interface RowRange {
  readonly minRows: number;
  readonly maxRows: number;
}

/** Which shader: `many` for tiles of 128 tokens, `few` for batched decode, 32 tokens at a time. */
export type MatrixKind = "many" | "few";

/** Past this many tokens `few` would read the weights a third time. */
export const MAX_FEW_TOKENS = 64;

/** Records the conversion of x and one launch a part of the weight. */
export function linearMatrix(
  rec: Recorder,
  args: LinearArgs,
  range: RowRange,
  kind: MatrixKind = "many",
): void {
  const [capacity = 0, inFeatures = 0] = args.x.shape;
  const halves = rec.alloc("x as f16", [roundUp(capacity, MATRIX_TILE), inFeatures], "f16");
  toHalves(rec, { ...args, halves, range });
  const record = kind === "many" ? matrixPart : fewPart;
  for (const part of args.weight.parts) record(rec, { ...args, halves, range, part });
}

interface HalvesArgs extends LinearArgs {
  readonly halves: Tensor; // [capacity rounded up to 128, inFeatures] f16
  readonly range: RowRange;
}

function liveRows({ rows, range }: HalvesArgs, live: LiveCounts): number {
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
}

/** Whole tiles without an epilogue: the shader stores its matrices straight into `out`. */
function isDirect({ out, bias, activation, part }: PartArgs): boolean {
  const [capacity = 0] = out.shape;
  const [numRows = 0] = part.tensor.shape;
  const isWhole = capacity % MATRIX_TILE === 0 && numRows % MATRIX_TILE === 0;
  return isWhole && bias === undefined && activation !== "swiglu";
}

const matrixPart: Kernel<PartArgs> = defineKernel({
  name: "linear_matrix",
  sources: ({ part }) => [
    "lib/live.wgsl",
    "lib/silu.wgsl",
    "lib/linear_io.wgsl",
    "lib/linear_common.wgsl",
    "lib/linear_store.wgsl",
    `lib/halves_${part.tensor.dtype}.wgsl`,
    "linear_matrix.wgsl",
  ],
  prelude: () => PRELUDE,
  overrides: (args) => ({ DIRECT: Number(isDirect(args)) }),
  launch: (args) => {
    const [numRows = 0] = args.part.tensor.shape;
    const tiles = ceilDiv(numRows, MATRIX_TILE); // with swiglu 64 gate rows and their ups each
    return {
      ...bindings(args),
      workgroups: (live) => [ceilDiv(liveRows(args, live), MATRIX_TILE), tiles, 1],
    };
  },
});

/** What both shaders bind: lib/linear_io.wgsl. */
function bindings(args: PartArgs): Omit<KernelLaunch, "workgroups"> {
  const { weight, bias, out, part, halves } = args;
  const isSwiglu = args.activation === "swiglu";
  const [numRows = 0] = part.tensor.shape;
  return {
    params: pack(
      u32(isSwiglu ? numRows / 2 : numRows),
      u32(weight.inFeatures / 8),
      u32(out.shape[1] ?? 0),
      u32(part.outOffset),
      u32(weight.outFeatures / 2),
      u32(bias === undefined ? 0 : 1),
      u32(isSwiglu ? 1 : 0),
      u32(args.rows === "samples" ? 1 : 0),
    ),
    inputs: [halves, part.tensor, bias ?? halves],
    outputs: [out],
  };
}

/** Tokens, and rows of the weight, in a tile of linear_matrix_few. */
const FEW_TILE = 32;

const fewPart: Kernel<PartArgs> = defineKernel({
  name: "linear_matrix_few",
  sources: ({ part }) => [
    "lib/live.wgsl",
    "lib/silu.wgsl",
    "lib/linear_io.wgsl",
    "lib/linear_common.wgsl",
    "lib/linear_store.wgsl",
    `lib/halves_${part.tensor.dtype}.wgsl`,
    "linear_matrix_few.wgsl",
  ],
  prelude: () => PRELUDE,
  launch: (args, adapter) => {
    const [numRows = 0] = args.part.tensor.shape; // with swiglu 16 gate rows and their ups each
    const [x, y] = spread(ceilDiv(numRows, FEW_TILE), adapter);
    return {
      ...bindings(args),
      workgroups: (live) => [x, y, ceilDiv(liveRows(args, live), FEW_TILE)],
    };
  },
});

/** Dawn's analysis does not know that `subgroup_id` is the same on all lanes of a subgroup. */
const PRELUDE = [
  "enable f16;",
  "enable subgroups;",
  "enable chromium_experimental_subgroup_matrix;",
  "diagnostic(off, chromium.subgroup_matrix_uniformity);",
].join("\n");
