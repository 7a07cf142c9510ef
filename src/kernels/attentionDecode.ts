/** Decode attention: splits of the context side by side (split-K), and their merge. */
import { ShapeError } from "../common/errors.ts";
import type { AdapterInfo, Tensor } from "../device/device.ts";
import type { LaunchCounts } from "../device/liveCounts.ts";
import {
  type AttentionArgs,
  attentionParams,
  constants,
  expectRows,
  outSources,
  shapeConstants,
  tunedFor,
} from "./attentionArgs.ts";
import { takesWhole, wholeContext } from "./attentionSplits.ts";
import {
  chooseDecodeVariant,
  chooseWholeVariant,
  type DecodeVariant,
  mergeParts,
} from "./attentionVariant.ts";
import { defineKernel, type Kernel, pack, u32 } from "./kernel.ts";

export interface PartialsArgs extends AttentionArgs {
  readonly partials: Tensor; // [partialRows, numHeads, headDim + 4] f32
}

type ChooseVariant = (args: AttentionArgs, adapter: AdapterInfo) => DecodeVariant;

/** Of both kernels, the one that a step takes is launched. */
function decodeKernel(
  name: string,
  choose: ChooseVariant,
  isForWhole: boolean,
): Kernel<PartialsArgs> {
  return defineKernel({
    name,
    sources: (args, adapter) => {
      const { kind, headsPerWorkgroup } = choose(args, adapter);
      const shared = ["lib/live.wgsl", "lib/paged_kv.wgsl"];
      const common = [...shared, ...outSources(args)];
      if (kind === "wide")
        return [...common, `lib/kv_${args.kvDType}.wgsl`, "attention_decode.wgsl"];
      const heads = headsPerWorkgroup === 1 ? "lib/heads_one.wgsl" : "lib/heads_many.wgsl";
      if (kind === "subgroup") {
        const octs = `lib/kv_oct_${args.kvDType}.wgsl`;
        return [...common, heads, octs, "attention_decode_subgroup.wgsl"];
      }
      const words = `lib/kv_word_${args.kvDType}.wgsl`;
      return [...shared, heads, words, "attention_decode_narrow.wgsl"];
    },
    prelude: (args, adapter) => decodePrelude(args, choose(args, adapter)),
    overrides: ({ blockSize }) => ({ BLOCK_SIZE: blockSize }),
    launch: (args, adapter) => {
      const { q, keyCache, valueCache, positions, sequenceIndex, blockTables } = args;
      const { kind, headTiles } = choose(args, adapter);
      if (kind === "narrow") expectRows(args);
      const numGroups = args.numKvHeads * headTiles;
      const mayBeWhole = hasWhole(args, adapter);
      return {
        params: attentionParams(args),
        inputs: [q, keyCache, valueCache, positions, sequenceIndex, blockTables],
        outputs: [args.partials, args.out],
        workgroups: (live) => {
          const { numSplits, numDecodeTokens } = live;
          const isWhole = numSplits === 1 && takesWhole(numDecodeTokens, args.numHeads);
          if ((mayBeWhole && isWhole) !== isForWhole) return [0, 1, 1];
          checkPartials(args, live);
          return [numSplits, numGroups, numDecodeTokens];
        },
      };
    },
  });
}

function checkPartials({ partials }: PartialsArgs, live: LaunchCounts): void {
  const { numDecodeTokens, numSplits } = live;
  const [rows = 0] = partials.shape;
  if (numSplits === 1 || numDecodeTokens * numSplits <= rows) return;
  throw new ShapeError(
    `attention: ${numDecodeTokens} decode tokens of ${numSplits} splits take ${numDecodeTokens * numSplits} partials; expected at most ${rows}, as chooseSplits gives`,
  );
}

/** One split of every decode token: its sum of values, maximum and sum of weights. */
export const attentionDecode = decodeKernel("attention_decode", splitVariant, false);

/** The whole context of every decode token, a query head a workgroup; where `hasWhole`. */
export const attentionWhole = decodeKernel("attention_whole", wholeVariant, true);

/** Whether steps of this attention may have contexts that are not split. */
export function hasWhole(args: AttentionArgs, adapter: AdapterInfo): boolean {
  return wholeContext(args, tunedFor(args, adapter)) > 0;
}

/** The splits of a token into its output. */
export const attentionMerge: Kernel<PartialsArgs> = defineKernel({
  name: "attention_merge",
  sources: (args) => ["lib/live.wgsl", ...outSources(args), "attention_merge.wgsl"],
  prelude: (args, adapter) =>
    constants({
      QUADS: args.headDim / 4,
      PARTS: mergeParts(args.headDim, tunedFor(args, adapter)),
    }),
  launch: ({ numHeads, partials, out }) => ({
    params: pack(u32(numHeads)),
    inputs: [partials],
    outputs: [out],
    workgroups: ({ numDecodeTokens, numSplits }) =>
      numSplits === 1 ? [0, 1, 1] : [numHeads, numDecodeTokens, 1],
  }),
});

function splitVariant(args: AttentionArgs, adapter: AdapterInfo): DecodeVariant {
  const group = args.numHeads / args.numKvHeads;
  const maxTokens = Math.min(args.q.shape[0] ?? 1, args.maxDecodeTokens ?? Infinity);
  return chooseDecodeVariant(args.headDim, group, tunedFor(args, adapter), maxTokens);
}

function wholeVariant(args: AttentionArgs, adapter: AdapterInfo): DecodeVariant {
  const group = args.numHeads / args.numKvHeads;
  const variant = chooseWholeVariant(args.headDim, group, tunedFor(args, adapter));
  if (variant !== undefined) return variant;
  throw new ShapeError(`attention: ${adapter.name} has no kernel for whole contexts; see hasWhole`);
}

function decodePrelude(args: AttentionArgs, variant: DecodeVariant): string {
  const { kind, headsPerWorkgroup, headTiles, lanes } = variant;
  const sizes = {
    ...shapeConstants(args),
    HEADS: headsPerWorkgroup,
    TILES: headTiles,
    LANES: lanes,
  };
  if (kind === "wide") return constants({ ...sizes, CHUNK: variant.chunk });
  const heads = headsPerWorkgroup > 1 ? `alias Heads = vec${headsPerWorkgroup}f;\n` : "";
  if (kind === "narrow") return heads + constants({ ...sizes, CHUNK: variant.chunk });
  // Dawn's analysis does not know that `subgroup_id` is the same on all lanes of a subgroup
  return [
    "enable subgroups;",
    "diagnostic(off, subgroup_uniformity);",
    `${heads}const SKIPS = ${variant.isWhole};`,
    constants({ ...sizes, SUBGROUPS: variant.maxSubgroups }),
  ].join("\n");
}
