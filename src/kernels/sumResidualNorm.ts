/**
 * The sum of partials (an all-reduce's last step) with what follows it: added to the residual, and
 * normed. The shaders are shaders/sum_residual_norm.wgsl and add_partials.wgsl.
 */
import { ShapeError } from "../common/errors.ts";
import { ceilDiv } from "../common/math.ts";
import { type AdapterInfo, expectShape, type Tensor } from "../device/device.ts";
import type { LaunchCounts } from "../device/liveCounts.ts";
import { expectActivations, quadSources } from "./activationTiles.ts";
import { defineKernel, f32, type Field, type Kernel, pack, u32, workgroupSize } from "./kernel.ts";

/** `count` tensors [capacity, hidden], `strideElements` apart in one. */
export interface Partials {
  readonly tensor: Tensor;
  readonly count: number;
  readonly strideElements: number;
}

export interface AddPartialsArgs {
  readonly partials: Partials;
  readonly residual: Tensor; // [capacity, hidden]; updated in place
}

export interface SumPartialsArgs {
  readonly partials: Partials;
  readonly out: Tensor; // [capacity, columns]; overwritten
  readonly rows: (live: LaunchCounts) => number;
}

export interface SumResidualNormArgs {
  readonly partials?: Partials; // none: the residual stays as it is
  readonly residual: Tensor; // [capacity, hidden]; updated in place
  readonly weight: Tensor; // [hidden]
  readonly out: Tensor; // [capacity, hidden] f32; or f16 in tiles, of capacity or more tokens
  readonly eps: number; // the checkpoint's rms_norm_eps
  /** Lanes of a token's workgroup, a power of two; normLanes by default. */
  readonly lanes?: number;
}

/** residual += partials, in rank order; out = RMSNorm(residual). One launch over the live tokens. */
export const sumResidualNorm: Kernel<SumResidualNormArgs> = defineKernel<SumResidualNormArgs>({
  name: "sum_residual_norm",
  sources: ({ out }) => [
    "lib/block_sum.wgsl",
    "lib/partial_sum.wgsl",
    ...quadSources(out),
    "sum_residual_norm.wgsl",
  ],
  overrides: ({ residual, lanes }, adapter) => {
    const [capacity = 0, hidden = 0] = residual.shape;
    return { WG_SIZE: lanes ?? normLanes(hidden, adapter, capacity) };
  },
  launch: ({ partials, residual, weight, out, eps }) => {
    const [capacity = 0, hidden = 0] = residual.shape;
    expectShape("weight", weight, [hidden]);
    expectActivations("out", out, capacity, hidden);
    const fields = partialFields(partials, residual);
    return {
      params: pack(...fields, f32(eps)),
      inputs: [partials?.tensor ?? weight, weight],
      outputs: [residual, out],
      workgroups: (live) => [live.numTokens, 1, 1],
    };
  },
});

/** residual += partials, in rank order. One launch over the live tokens. */
export const addPartials: Kernel<AddPartialsArgs> = defineKernel<AddPartialsArgs>({
  name: "add_partials",
  sources: ["lib/partial_sum.wgsl", "add_partials.wgsl"],
  overrides: (_args, adapter) => ({ WG_SIZE: workgroupSize(adapter, 64) }),
  launch: ({ partials, residual }, adapter) => {
    const [, hidden = 0] = residual.shape;
    const x = ceilDiv(hidden / 4, workgroupSize(adapter, 64));
    return {
      params: pack(...partialFields(partials, residual)),
      inputs: [partials.tensor],
      outputs: [residual],
      workgroups: (live) => [x, live.numTokens, 1],
    };
  },
});

/** out = the sum of partials, in rank order. One launch over `rows` rows. */
export const sumPartials: Kernel<SumPartialsArgs> = defineKernel<SumPartialsArgs>({
  name: "sum_partials",
  sources: ["lib/partial_sum.wgsl", "add_partials.wgsl"],
  overrides: (_args, adapter) => ({ WG_SIZE: workgroupSize(adapter, 64), ONTO: 0 }),
  launch: ({ partials, out, rows }, adapter) => {
    const [, columns = 0] = out.shape;
    const x = ceilDiv(columns / 4, workgroupSize(adapter, 64));
    return {
      params: pack(...partialFields(partials, out)),
      inputs: [partials.tensor],
      outputs: [out],
      workgroups: (live) => [x, rows(live), 1],
    };
  },
});

/** Tokens whose workgroups leave most of a GPU idle, so that what counts is how long one takes. */
const FEW_TOKENS = 64;

/**
 * Lanes of a token's workgroup: a power of two. Software adapters switch coroutines at each of the
 * reduction's barriers, so few lanes with more quads each are faster there; hardware wants a
 * lane a quad, up to 256, or 1,024 for few tokens: on an H200 7.5 us instead of 10.7 for 32 tokens of 4,096 with 8
 * partials (in passes of their own).
 */
export function normLanes(
  hidden: number,
  adapter: Pick<AdapterInfo, "isSoftware" | "limits">,
  capacity = Infinity,
): number {
  if (adapter.isSoftware) return 8;
  const { maxComputeInvocationsPerWorkgroup } = adapter.limits;
  const quads = 2 ** Math.ceil(Math.log2(Math.max(hidden / 4, 32)));
  const most = capacity <= FEW_TOKENS ? 1024 : 256;
  return Math.min(quads, most, maxComputeInvocationsPerWorkgroup);
}

/** Quads of a row, partials, and quads from a partial to the next; throws unless the partials fit. */
export function partialFields(
  partials: Partials | undefined,
  residual: Tensor,
): [numQuads: Field, numPartials: Field, strideQuads: Field] {
  const [, hidden = 0] = residual.shape;
  const { count = 0, strideElements = 0 } = partials ?? {};
  if (hidden % 4 !== 0 || strideElements % 4 !== 0) {
    throw new ShapeError(
      `residual, partials: expected hidden and strideElements as multiples of 4, got ${hidden} and ${strideElements}`,
    );
  }
  const last = (count - 1) * strideElements + residual.numElements;
  if (partials !== undefined && last > partials.tensor.numElements) {
    throw new ShapeError(
      `partials: expected ${last} elements for ${count} partials of ${residual.numElements}, got ${partials.tensor.numElements}`,
    );
  }
  return [u32(hidden / 4), u32(count), u32(strideElements / 4)];
}
