/** Linear layers on tensor cores: which kernel of linearMatrixKernels.ts takes what. */
import { ShapeError } from "../common/errors.ts";
import { ceilDiv, roundUp } from "../common/math.ts";
import type { AdapterInfo, Tensor } from "../device/device.ts";
import type { Recorder } from "../device/recorder.ts";
import { TILE, tilesShape } from "./activationTiles.ts";
import type { LinearArgs } from "./linear.ts";
import {
  FEW_TILE,
  fewPart,
  MATRIX_TILE,
  matrixPart,
  MAX_NARROW_GROUPS,
  type PartArgs,
  type RowRange,
  streamPart,
  toHalves,
  widePart,
} from "./linearMatrixKernels.ts";

/** Of the largest workgroup, attention_prefill_matrix's. */
const LANES = 256;
/** Workgroup memory of linear_matrix, the most of any. */
const TILE_BYTES = 2 * MATRIX_TILE * 9 * 16;

/** True where the adapter runs shaders/linear_matrix*.wgsl: f16 matrices over subgroups of 32 lanes. */
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

/** True where these kernels take a layer of so many input features: activations are whole tiles of 16. */
export function takesFeatures(inFeatures: number): boolean {
  return inFeatures % TILE === 0;
}

/** Capacities below have outputs that may be too small to bind; see MIN_MATRIX_OUT_BYTES. */
const MIN_HALVES_CAPACITY = 32;

/**
 * True where the linear layers of a list multiply on tensor cores alone: kernels before them then
 * write activations as f16 in tiles, of shape `halvesShape`.
 */
export function takesHalves(adapter: AdapterInfo, capacity: number, inFeatures: number): boolean {
  return capacity >= MIN_HALVES_CAPACITY && takesFeatures(inFeatures) && hasMatrixKernel(adapter);
}

/** Shape of an f16 input, in tiles (activationTiles.ts); tokens past the live ones hold anything. */
export function halvesShape(capacity: number, inFeatures: number): readonly number[] {
  const tokens = roundUp(capacity, capacity <= MAX_FEW_TOKENS ? FEW_TILE : MATRIX_TILE);
  return tilesShape(tokens, inFeatures);
}

/** Room for what a linear layer reads: f16 where tensor cores alone do. shape: [capacity, inFeatures] */
export function allocLinearInput(rec: Recorder, label: string, shape: readonly number[]): Tensor {
  const [capacity = 0, inFeatures = 0] = shape;
  if (!takesHalves(rec.device.info, capacity, inFeatures)) return rec.alloc(label, shape);
  return rec.alloc(label, halvesShape(capacity, inFeatures), "f16");
}

/** WebGPU asks of a binding that a matrix of f32, 16 x 16, can be stored in it. */
export const MIN_MATRIX_OUT_BYTES = 1024;

/** `many` takes tiles of 128 tokens; `few`, for batched decode, 32 tokens at a time; the others name a kernel. */
export type MatrixKind = "many" | "few" | "staged" | "stream" | "narrow" | "wide";

const RECORD: Record<MatrixKind, (rec: Recorder, args: PartArgs) => void> = {
  many: manyTokens,
  few: fewTokens,
  staged: matrixPart,
  stream: streamPart,
  narrow: (rec, args) => {
    widePart(rec, { ...args, tileRows: 64 });
  },
  wide: (rec, args) => {
    widePart(rec, { ...args, tileRows: 128 });
  },
};

/** Past this many tokens `few` would read the weights a third time. */
export const MAX_FEW_TOKENS = 64;

/** From so many rows on the tiles of linear_matrix_wide alone are workgroups enough. */
const WIDE_MIN_ROWS = 12_800;

/** Records the conversion of x unless it is f16, and one launch a part of the weight, or two of which one runs. */
export function linearMatrix(
  rec: Recorder,
  args: LinearArgs,
  range: RowRange,
  kind: MatrixKind = "many",
): void {
  const halves = args.x.dtype === "f16" ? args.x : convertedInput(rec, args, range);
  for (const part of args.weight.parts) {
    RECORD[kind](rec, { ...args, halves, range, part, splits: 1 });
  }
}

function fewTokens(rec: Recorder, args: PartArgs): void {
  const [numRows = 0] = args.part.tensor.shape;
  (numRows >= WIDE_MIN_ROWS ? widePart : fewPart)(rec, args);
}

/**
 * From so many tiles of 128 x 128 on linear_matrix_stream is the faster one: of linear_matrix an H200's 132
 * processors run a workgroup each at once, of it two. 512 tokens, f16: 81 against 88 us for 4096 x 4096 (128 tiles),
 * 156 against 115 for 4096 to 6144 (192), 535 against 417 for 4096 to 28672 (896).
 */
const STREAM_MIN_TILES = 133;

function manyTokens(rec: Recorder, args: PartArgs): void {
  const { part, range, halves } = args;
  const rowTiles = ceilDiv(part.tensor.shape[0] ?? 0, MATRIX_TILE);
  const tokenTiles = ceilDiv(STREAM_MIN_TILES, rowTiles);
  const staged = { ...range, maxRows: Math.min(range.maxRows, (tokenTiles - 1) * MATRIX_TILE) };
  const streamed = { ...range, minRows: Math.max(range.minRows, staged.maxRows + 1) };
  if (staged.maxRows >= range.minRows) matrixPart(rec, { ...args, range: staged });
  const capacity = (halves.shape[0] ?? 0) * TILE;
  if (capacity >= streamed.minRows) streamPart(rec, { ...args, range: streamed });
}

/**
 * y as sums over parts of k, for the next kernel to add: out [splits * capacity, outFeatures], at most
 * MAX_FEW_TOKENS live rows; where those are whole tiles of 32, of rows past the live ones too, which hold anything.
 * One launch, and one more to convert x unless it is f16; see `splitsOf`. `tileRows` is for tests.
 */
export function linearSplit(
  rec: Recorder,
  args: LinearArgs,
  splits: number,
  tileRows?: 64 | 128,
): void {
  const [part] = args.weight.parts;
  if (part === undefined || args.weight.parts.length > 1 || args.bias !== undefined) {
    throw new ShapeError("linearSplit: expected a weight in one part, and no bias");
  }
  const range = { minRows: 1, maxRows: MAX_FEW_TOKENS };
  const halves = args.x.dtype === "f16" ? args.x : convertedInput(rec, args, range);
  widePart(rec, { ...args, halves, range, part, splits, tileRows });
}

const MAX_SPLITS = 8;

/**
 * Parts of k for linearSplit that give a GPU workgroups to hide the latency of loads with; 1 where the
 * weight has rows enough, or the layer is none for linearSplit. NVIDIA H200, 32 tokens, f16; us a launch. The layers of
 * 4,096 and 14,336 were measured in sweeps over 13 GB, the others over 0.5:
 *
 *                   64 rows a workgroup     128 rows
 *   rows x in     1     2     4     8     1     2     4     8 parts
 *    2048 x 2048  16.3  10.2   7.7   7.4  19.9  12.4   9.0   8.3
 *    3072 x 2048  16.6  10.9   9.4   8.9  20.1  12.7  10.1  10.2
 *    2048 x 8192  55.4  30.5  19.0  14.7  65.8  35.9  21.5  16.1
 *    4096 x 4096  30.0  18.6  15.9  20.4  36.4  22.0  16.0  16.7
 *    6144 x 4096  31.6  24.4  21.3  25.3  37.3  23.9  22.3  26.8
 *   4096 x 14336  95.0  54.2  38.0  55.4   115  62.3  40.2  38.6
 *   16384 x 2048  24.4  28.2  28.2  31.8  26.4  24.5  28.0  34.8
 *   28672 x 4096  96.0  91.2  87.8  94.2  63.7  75.0  84.2  86.3
 */
export function splitsOf(adapter: AdapterInfo, args: SplitShape): number {
  const { weight, capacity, hasBias } = args;
  const { outFeatures, inFeatures, parts } = weight;
  const isFew = takesHalves(adapter, capacity, inFeatures) && capacity <= MAX_FEW_TOKENS;
  if (!isFew || hasBias || parts.length > 1 || outFeatures >= WIDE_MIN_ROWS) return 1;
  let splits = MAX_SPLITS;
  while (splits > 1 && ceilDiv(outFeatures, 64) * splits > MAX_NARROW_GROUPS) splits /= 2;
  return splits;
}

interface SplitShape {
  readonly weight: LinearArgs["weight"];
  readonly capacity: number;
  readonly hasBias: boolean;
}

function convertedInput(rec: Recorder, args: LinearArgs, range: RowRange): Tensor {
  const [capacity = 0, inFeatures = 0] = args.x.shape;
  const halves = rec.alloc("x as f16", halvesShape(capacity, inFeatures), "f16");
  toHalves(rec, { ...args, halves, range });
  return halves;
}
