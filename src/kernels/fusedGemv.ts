/**
 * One launch of shaders/linear_gemv.wgsl that also does the work of its neighbours: each launch of a
 * token's chain costs 1.7 us on an H200 at the least, and 3 to 5 us as a rule, where the linear layers of a
 * 1B model take 5 to 20 us each.
 */
import type { WeightDType } from "../common/dtype.ts";
import { ShapeError } from "../common/errors.ts";
import type { Tensor } from "../device/device.ts";
import type { LaunchCounts } from "../device/liveCounts.ts";
import type { Recorder } from "../device/recorder.ts";
import { defineKernel, f32, type Kernel, pack, u32 } from "./kernel.ts";
import type { LinearArgs, WeightPart } from "./linear.ts";
import { linearFields } from "./linearParams.ts";
import { gemvOverrides, gemvSources, reachOfGemv } from "./linearGemv.ts";
import {
  type GemvVariant,
  linearVariants,
  MAX_GEMV_CAPACITY,
  needsSubgroups,
} from "./linearVariant.ts";
import { partialFields, type Partials } from "./sumResidualNorm.ts";

/** An RMSNorm that a linear layer computes as it reads: norm(residual + partials) * weight. */
export interface NormedInput {
  readonly residual: Tensor; // [capacity, hidden]
  /** What is still to be added to the residual; the sum goes to `updated`, once. */
  readonly pending?: { readonly partials: Partials; readonly updated: Tensor } | undefined;
  readonly weight: Tensor; // [hidden]
  readonly eps: number; // the checkpoint's rms_norm_eps
}

/** What makes a fused GEMV. */
export interface FusedGemv extends Omit<LinearArgs, "out"> {
  readonly name: string;
  /** Files that bind, that read x and that take the sums of a lane group's rows. */
  readonly sources: readonly string[];
  readonly prelude?: string;
  /** The norm of x, which is then its residual. */
  readonly norm?: NormedInput | undefined;
  /** Elements from an output row to the next. */
  readonly outStride: number;
  readonly numHeads?: number;
  readonly numKvHeads?: number;
  /** What is bound after x, the weight and the bias. */
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
}

interface PartArgs extends FusedGemv {
  readonly part: WeightPart;
  readonly variant: GemvVariant;
  readonly minRows: number;
  readonly maxRows: number;
}

/** Records one launch a part and variant, of which a replay runs one a part. */
export function fusedGemv(rec: Recorder, args: FusedGemv): void {
  const { name, weight, x } = args;
  const [capacity = 0] = x.shape;
  for (const part of weight.parts) {
    const shape = {
      capacity,
      outFeatures: part.tensor.shape[0] ?? 0,
      inFeatures: weight.inFeatures,
      dtype: part.tensor.dtype as WeightDType,
    };
    for (const choice of args.choices ?? linearVariants(shape, rec.device.info)) {
      const { variant, minRows, maxRows } = choice;
      if (variant.kind !== "gemv") {
        throw new ShapeError(
          `${name}: x: expected at most ${MAX_GEMV_CAPACITY} rows, which a GEMV takes, got ${capacity}`,
        );
      }
      launchPart(rec, { ...args, part, variant, minRows, maxRows });
    }
  }
}

const launchPart: Kernel<PartArgs> = defineKernel<PartArgs>({
  name: ({ name, variant }) => `${name} ${variant.tokens}`,
  sources: ({ part, variant, sources }) => [
    "lib/fused_params.wgsl",
    ...sources,
    ...gemvSources(variant, part.tensor.dtype as WeightDType),
  ],
  prelude: ({ variant, prelude = "" }) =>
    needsSubgroups(variant) ? `enable subgroups;\n${prelude}` : prelude,
  overrides: ({ variant }) => gemvOverrides(variant),
  launch: (args, adapter) => {
    const { x, bias, part, variant, rows, minRows, maxRows } = args;
    const [numRows = 0] = part.tensor.shape;
    const reach = reachOfGemv(numRows, variant, adapter);
    return {
      params: packParams(args),
      inputs: [x, part.tensor, bias ?? x, ...args.inputs],
      outputs: args.outputs,
      workgroups: (live: LaunchCounts) => {
        const numLive = rows === "samples" ? live.numSamples : live.numTokens;
        return numLive < minRows || numLive > maxRows ? [0, 0, 0] : reach(numLive);
      },
    };
  },
});

function packParams(args: PartArgs): Uint8Array {
  const { x, weight, part, norm, numHeads = 0, numKvHeads = 0 } = args;
  const [, numPartials, stride] = partialFields(norm?.pending?.partials, x);
  return pack(
    ...linearFields(args, args.outStride),
    f32(norm?.eps ?? 0),
    numPartials,
    stride,
    u32(part === weight.parts[0] ? 1 : 0),
    u32(numHeads),
    u32(numKvHeads),
  );
}
