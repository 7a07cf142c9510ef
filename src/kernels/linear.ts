/** Linear layers, y = x Wᵀ + b; the shaders are shaders/linear_gemv.wgsl and linear_gemm.wgsl. */
import type { WeightDType } from "../common/dtype.ts";
import { ShapeError } from "../common/errors.ts";
import { ceilDiv } from "../common/math.ts";
import { type AdapterInfo, expectDType, expectShape, type Tensor } from "../device/device.ts";
import type { LaunchCounts } from "../device/liveCounts.ts";
import type { Recorder } from "../device/recorder.ts";
import { isTiled, TILE, tilesShape } from "./activationTiles.ts";
import { defineKernel, type Kernel, type KernelLaunch, pack } from "./kernel.ts";
import {
  halvesShape,
  hasMatrixKernel,
  linearMatrix,
  MAX_FEW_TOKENS,
  MIN_MATRIX_OUT_BYTES,
  takesFeatures,
} from "./linearMatrix.ts";
import { linearFields } from "./linearParams.ts";
import { gemvOverrides, gemvSources, PLAIN_ROWS, type Reach, reachOfGemv } from "./linearGemv.ts";
import {
  GEMM_TILE,
  type LinearChoice,
  linearVariants,
  MATRIX_MIN_ROWS,
  MAX_GEMV_CAPACITY,
  needsSubgroups,
} from "./linearVariant.ts";

/** Rows of a weight that fit one binding. */
export interface WeightPart {
  readonly tensor: Tensor; // [rows, inFeatures] f32, f16 or bf16
  /** Where this part's outputs start among the layer's. */
  readonly outOffset: number;
}

export interface LinearWeight {
  readonly parts: readonly WeightPart[];
  /** Rows of all parts. With swiglu a part is n gate rows, then their n up rows: n outputs. */
  readonly outFeatures: number;
  /** A multiple of 8; columns past the checkpoint's are zeros. */
  readonly inFeatures: number;
}

export interface LinearArgs {
  /** [capacity, inFeatures]; or f16 in tiles for tensor cores alone: halvesShape(capacity, inFeatures) */
  readonly x: Tensor;
  readonly weight: LinearWeight;
  readonly bias?: Tensor; // [outFeatures]; with swiglu all gate biases, then all up biases
  /**
   * [capacity or more, outputs or more], outputs = outFeatures, with swiglu half; or f16 in tiles after an f16 x:
   * halvesShape(capacity, outputs)
   */
  readonly out: Tensor;
  /** Which count says how many rows are live. */
  readonly rows: "tokens" | "samples";
  /** swiglu: out = silu(gate) * up. */
  readonly activation?: "none" | "swiglu";
  /** Replaces the choice of linearVariants, for tests and benchmarks. */
  readonly choices?: readonly LinearChoice[];
}

interface PartArgs extends LinearArgs {
  readonly part: WeightPart;
  readonly choice: LinearChoice;
}

/** Records one launch a part and variant, of which a replay runs one a part. */
export function linear(rec: Recorder, args: LinearArgs): void {
  checkLinear(args);
  const { x, weight, out } = args;
  const [capacity = 0] = out.shape;
  if (isTiled(x)) {
    linearMatrix(rec, args, { minRows: 1, maxRows: MAX_FEW_TOKENS }, "few");
    if ((x.shape[0] ?? 0) * TILE > MAX_FEW_TOKENS) {
      linearMatrix(rec, args, { minRows: MAX_FEW_TOKENS + 1, maxRows: Infinity }, "many");
    }
    return;
  }
  // where there are tensor cores, they take all steps of more than a few tokens
  const usesMatrices =
    args.choices === undefined &&
    capacity > MAX_GEMV_CAPACITY &&
    takesFeatures(weight.inFeatures) &&
    out.sizeBytes >= MIN_MATRIX_OUT_BYTES &&
    hasMatrixKernel(rec.device.info);
  if (usesMatrices) {
    linearMatrix(rec, args, { minRows: MATRIX_MIN_ROWS, maxRows: MAX_FEW_TOKENS }, "few");
    if (capacity > MAX_FEW_TOKENS) {
      linearMatrix(rec, args, { minRows: MAX_FEW_TOKENS + 1, maxRows: Infinity }, "many");
    }
  }
  for (const part of weight.parts) {
    const shape = {
      capacity: out.shape[0] ?? 0,
      outFeatures: part.tensor.shape[0] ?? 0,
      inFeatures: weight.inFeatures,
      dtype: part.tensor.dtype as WeightDType,
    };
    for (const choice of args.choices ?? linearVariants(shape, rec.device.info)) {
      if (usesMatrices && choice.minRows >= MATRIX_MIN_ROWS) continue;
      launchPart(rec, { ...args, part, choice });
    }
  }
}

const launchPart: Kernel<PartArgs> = defineKernel<PartArgs>({
  name: ({ choice: { variant } }) =>
    variant.kind === "gemm" ? "linear_gemm" : `linear_gemv ${variant.tokens}`,
  sources: partSources,
  prelude: ({ choice: { variant } }) => (needsSubgroups(variant) ? "enable subgroups;" : ""),
  overrides: ({ choice: { variant } }) => (variant.kind === "gemm" ? {} : gemvOverrides(variant)),
  launch: describeLaunch,
});

function partSources({ part, choice: { variant } }: PartArgs): readonly string[] {
  const dtype = part.tensor.dtype as WeightDType;
  if (variant.kind === "gemv") {
    return [
      "lib/linear_io.wgsl",
      "lib/input_plain.wgsl",
      ...PLAIN_ROWS,
      ...gemvSources(variant, dtype),
    ];
  }
  return [
    "lib/live.wgsl",
    "lib/silu.wgsl",
    "lib/linear_io.wgsl",
    "lib/linear_common.wgsl",
    "lib/linear_store.wgsl",
    `lib/weights_${dtype}.wgsl`,
    "linear_gemm.wgsl",
  ];
}

function describeLaunch(args: PartArgs, adapter: AdapterInfo): KernelLaunch {
  const { x, bias, out, rows, part, choice } = args;
  const { variant, minRows, maxRows } = choice;
  const [numRows = 0] = part.tensor.shape;
  const reach =
    variant.kind === "gemm" ? reachOfGemm(numRows) : reachOfGemv(numRows, variant, adapter);
  return {
    params: pack(...linearFields(args, out.shape[1] ?? 0)),
    inputs: [x, part.tensor, bias ?? x],
    outputs: [out],
    workgroups: (live: LaunchCounts) => {
      const numLive = rows === "samples" ? live.numSamples : live.numTokens;
      return numLive < minRows || numLive > maxRows ? [0, 0, 0] : reach(numLive);
    },
  };
}

function reachOfGemm(numRows: number): Reach {
  const x = ceilDiv(numRows, GEMM_TILE);
  return (numLive) => [x, ceilDiv(numLive, GEMM_TILE), 1];
}

/** Throws a ShapeError that names what does not fit. */
export function checkLinear(args: LinearArgs): void {
  const { x, weight, out, activation } = args;
  const { outFeatures, inFeatures } = weight;
  const numOutputs = activation === "swiglu" ? outFeatures / 2 : outFeatures;
  checkWeight(args);
  const [capacity = 0, outStride = 0] = out.shape;
  if (out.dtype === "f16") {
    if (!isTiled(x)) throw new ShapeError("out: expected f32, or f16 after an f16 x");
    const tokens = (x.shape[0] ?? 0) * TILE;
    expectShape("x", x, tilesShape(tokens, inFeatures));
    expectShape("out", out, tilesShape(tokens, numOutputs));
    return;
  }
  expectShape("x", x, isTiled(x) ? halvesShape(capacity, inFeatures) : [capacity, inFeatures]);
  if (out.shape.length !== 2 || outStride < numOutputs) {
    throw new ShapeError(
      `out: expected [capacity, ${numOutputs} or more], got [${out.shape.join(", ")}]`,
    );
  }
}

/** Throws a ShapeError unless the weight is whole and the bias fits it. */
export function checkWeight({ weight, bias, activation }: Omit<LinearArgs, "x" | "out">): void {
  const { outFeatures, inFeatures, parts } = weight;
  if (inFeatures % 8 !== 0) {
    throw new ShapeError(`weight: inFeatures: expected a multiple of 8, got ${inFeatures}`);
  }
  if (bias !== undefined) expectShape("bias", bias, [outFeatures]);
  const total = parts.reduce((sum, part) => sum + checkPart(part, inFeatures, activation), 0);
  if (total !== outFeatures) {
    throw new ShapeError(`weight: expected ${outFeatures} rows over its parts, got ${total}`);
  }
}

function checkPart(
  { tensor }: WeightPart,
  inFeatures: number,
  activation: LinearArgs["activation"],
): number {
  const [numRows = 0] = tensor.shape;
  expectShape("weight", tensor, [numRows, inFeatures]);
  expectDType("weight", tensor, ["f32", "f16", "bf16"]);
  if (activation === "swiglu" && numRows % 2 !== 0) {
    throw new ShapeError(`weight: expected as many up as gate rows, got ${numRows} rows in all`);
  }
  return numRows;
}
