/**
 * Which shader computes a linear layer, and with which sizes: one pure function of the shapes, the
 * dtype and the adapter.
 *
 * Software adapters run a workgroup's lanes in SIMD on the CPU: a load is a scalar load a lane, and a
 * barrier a switch of coroutines. So a lane takes whole rows, lanes share the loads of activations,
 * and several tokens share the loads of weights. All linear layers of one pass of the 5M-parameter
 * demo model (hidden 256, 6 layers, vocabulary 4096, bf16; 5.5M multiplications a token), CPU time in
 * ms over 2 cores of an AMD EPYC, the least of several runs:
 *
 *   tokens   variant                         lavapipe   SwiftShader
 *        1   alone, 1 token, load                 1.1         9.2
 *        1   alone, 1 token, broadcast            1.0         9.0
 *        8   alone, 1 token, broadcast            7.4        61
 *        8   alone, 4 tokens, load                5.5        34
 *        8   alone, 4 tokens, broadcast           3.7        28
 *        8   alone, 8 tokens, broadcast           3.7        28
 *       64   alone, 4 tokens, broadcast          32         217
 *       64   alone, 8 tokens, broadcast          31         227
 *       64   gemm                               136         631
 *
 * For one token, 64 lanes a row over memory took 3 times as long as alone on lavapipe and 9 times on
 * SwiftShader. 8 tokens gain nothing over 4 and take lavapipe twice as long to compile.
 * Workgroups of 8 to 64 lanes differ by less than the noise.
 *
 * Hardware: the lanes of a workgroup read a row side by side, 16 bytes each, four rows at a time, by two kernels.
 * linear_gemv gives four rows a workgroup of their own. linear_gemv_held keeps the activations in registers while it
 * walks over rows, so it takes rows of at most 4,096 weights, and enough of them. NVIDIA H200, Dawn 0.6.2,
 * `disable_robustness` on, one token, bf16; us a launch, each launch waiting for the one before, in sweeps over 13 GB of
 * weights (in 4,096) or 2.4 GB (in 2,048 and 8,192), as a model's are; "norm" is norm_gemv, "onto" gemv_onto.
 *
 *                            lanes, stretches            held by so many workgroups
 *   rows x in                128, 64   256, 16   256, 1     264    396    528   1056
 *   28672 x 4096, norm          62.1      59.3     64.3    57.0   57.3   57.6   57.9
 *    4096 x 4096, onto          12.9      12.5     13.1    12.5   12.3   12.4
 *   4096 x 14336, onto          34.6      33.8     31.7
 *    6144 x 4096                17.0      16.4     17.4    15.8   15.7   15.8   16.7
 *  128256 x 4096                 240       236      245     233    233    232    233 (norm)
 *   16384 x 2048, norm          21.0      21.2     21.0    23.1   21.1   20.4   20.1
 *    2048 x 2048, onto           6.0       5.5      5.5     6.1    6.3
 *    2048 x 8192, onto          13.6      11.7     11.7
 *    3072 x 2048                 6.6       6.4      6.2     7.0    6.5    6.6
 *  128256 x 2048, norm                     124              141    123    121    120
 *
 * That GPU looks addresses up anew in each sweep over more than 6 GB of weights: 28672 x 4096 took 56 us in sweeps of
 * 0.5 to 5.6 GB, and 62 from 11 GB on with one stretch. Over several stretches of the weight at once fewer workgroups
 * wait for the same page; workgroups that run at once anyway are better off side by side.
 */
import type { WeightDType } from "../common/dtype.ts";
import { ceilDiv, roundUp } from "../common/math.ts";
import type { AdapterInfo } from "../device/device.ts";
import { type TunedAdapter, tunedNumber } from "./tuned.ts";

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
  /** Stretches of the weight that workgroups take turns in: 1 by default. */
  readonly streams?: number;
  /**
   * shaders/linear_gemv_held.wgsl: so many workgroups at most hold one token's activations, up to HELD_CHUNKS a
   * lane, and walk over the rows; with `rowSum` subgroup and `activations` load.
   */
  readonly maxWorkgroups?: number;
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
export type LinearAdapter = Pick<AdapterInfo, "isSoftware" | "hasSubgroups" | "subgroupMinSize"> &
  TunedAdapter;

/** Rows of the weight that a lane group sums. */
export const ROWS_PER_LANE_GROUP = 4;

/** Tokens and rows of the weight in a tile of linear_gemm. */
export const GEMM_TILE = 64;

/** Tokens from which tensor cores, with their 16-token matrices, beat sums by lanes. */
export const MATRIX_MIN_ROWS = 5;

/** Lists of so few tokens stay with sums by lanes throughout: f32 activations, one kernel. */
export const MAX_GEMV_CAPACITY = 8;

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
  const all = adapter.isSoftware
    ? softwareChoices(shape, adapter)
    : hardwareChoices(shape, adapter);
  return all.filter(({ minRows }) => minRows <= shape.capacity);
}

/** The entry of `AdapterInfo.tuned` for a shape, whatever its capacity. */
export function linearEntry({
  outFeatures,
  inFeatures,
  dtype,
}: Omit<LinearShape, "capacity">): string {
  return `linear ${dtype} ${outFeatures}x${inFeatures}`;
}

/**
 * Fields of an entry: workgroups that hold one token's activations (0: none does), lanes of a workgroup by the
 * tokens that it sums where none does, and the rows from which gemm runs.
 */
export type LinearField = "workgroups1" | "lanes1" | "lanes4" | "lanes8" | "gemmMinRows";

/**
 * The numbers that autotuning tries, and the only ones that an entry may name. Over workgroup memory a lane
 * has 16 bytes a token, so that 8 tokens take 64 lanes at most.
 */
export function linearCandidates(
  field: LinearField,
  { isSoftware }: Pick<LinearAdapter, "isSoftware">,
): readonly number[] {
  if (isSoftware) return field === "lanes1" || field === "lanes4" ? [8, 16, 32, 64] : [];
  switch (field) {
    case "workgroups1":
      return [0, 264, 396, 528, 792, 1056];
    case "lanes1":
      return [32, 64, 128, 256];
    case "lanes4":
      return [32, 64, 128];
    case "lanes8":
      return [32, 64];
    case "gemmMinRows":
      return [9, 17, 33, 65];
  }
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

/** What was measured for a shape, or the default. */
function tunedFor(
  field: LinearField,
  shape: LinearShape,
  adapter: LinearAdapter,
  otherwise: number,
): number {
  const allowed = linearCandidates(field, adapter);
  return tunedNumber(adapter.tuned, linearEntry(shape), field, allowed) ?? otherwise;
}

function softwareChoices(shape: LinearShape, adapter: LinearAdapter): LinearChoice[] {
  const { hasSubgroups, subgroupMinSize } = adapter;
  const activations = hasSubgroups && subgroupMinSize >= 4 ? "broadcast" : "load";
  const alone = { kind: "gemv", rowSum: "alone", activations } as const;
  const [one, four] = [
    tunedFor("lanes1", shape, adapter, 32),
    tunedFor("lanes4", shape, adapter, 32),
  ];
  return [
    { variant: { ...alone, tokens: 1, workgroupSize: one }, minRows: 1, maxRows: 1 },
    { variant: { ...alone, tokens: 4, workgroupSize: four }, minRows: 2, maxRows: Infinity },
  ];
}

/** By the tables above. */
const HARDWARE_STREAMS = 16;
const HARDWARE_LANES = 256;
/** Of HARDWARE_LANES, on 132 processors. */
const WORKGROUPS_AT_ONCE = 1056;

/** Lanes that hold the activations of a token: 1,024 on each of 132 processors. */
const HELD_LANES = 1024 * 132;
/** Chunks of 8 activations that a lane holds, and the most lanes that do. */
const HELD_CHUNKS = 2;
const MAX_HELD_LANES = 256;
/** Turns of a workgroup that are worth it; 4096 x 4096 is 1.94. */
const MIN_HELD_TURNS = 1.9;

function hardwareChoices(shape: LinearShape, adapter: LinearAdapter): LinearChoice[] {
  const lanes = hardwareLanes(shape);
  const isOneWave = ceilDiv(shape.outFeatures, ROWS_PER_LANE_GROUP) <= WORKGROUPS_AT_ONCE;
  const shared = {
    kind: "gemv",
    rowSum: adapter.hasSubgroups ? "subgroup" : "memory",
    activations: "load",
    streams: isOneWave ? 1 : HARDWARE_STREAMS,
  } as const;
  // 8 tokens take 96 registers for sums and activations. Over memory a lane has 16 bytes a token.
  const one = tunedFor("lanes1", shape, adapter, lanes);
  const four = tunedFor("lanes4", shape, adapter, Math.min(lanes, 128));
  const eight = tunedFor("lanes8", shape, adapter, Math.min(lanes, 64));
  const gemmMinRows = tunedFor("gemmMinRows", shape, adapter, GEMM_MIN_ROWS);
  return [
    {
      variant: heldVariant(shape, adapter) ?? { ...shared, tokens: 1, workgroupSize: one },
      minRows: 1,
      maxRows: 1,
    },
    { variant: { ...shared, tokens: 4, workgroupSize: four }, minRows: 2, maxRows: 4 },
    {
      variant: { ...shared, tokens: 8, workgroupSize: eight },
      minRows: 5,
      maxRows: gemmMinRows - 1,
    },
    { variant: { kind: "gemm" }, minRows: gemmMinRows, maxRows: Infinity },
  ];
}

/** The variant that holds a token's activations, for rows that are many and short enough. */
function heldVariant(shape: LinearShape, adapter: LinearAdapter): GemvVariant | undefined {
  const chunks = shape.inFeatures / 8;
  const workgroupSize = Math.max(32, roundUp(ceilDiv(chunks, HELD_CHUNKS), 32));
  const isFitting = adapter.hasSubgroups && workgroupSize <= MAX_HELD_LANES;
  const workgroups = Math.floor(HELD_LANES / workgroupSize);
  const isLong = ceilDiv(shape.outFeatures, ROWS_PER_LANE_GROUP) >= MIN_HELD_TURNS * workgroups;
  const wanted = isFitting && isLong ? workgroups : 0;
  const maxWorkgroups = tunedFor("workgroups1", shape, adapter, wanted);
  if (!isFitting || maxWorkgroups === 0) return undefined;
  const rest = { rowSum: "subgroup", activations: "load", maxWorkgroups } as const;
  return { kind: "gemv", tokens: 1, workgroupSize, ...rest };
}

/** Lanes that read four rows side by side: no more than a row has chunks. */
function hardwareLanes({ inFeatures }: LinearShape): number {
  const chunks = 2 ** Math.floor(Math.log2(inFeatures / 8));
  return Math.min(HARDWARE_LANES, Math.max(32, chunks));
}
