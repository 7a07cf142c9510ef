/** Prefill attention: tiles of a sequence's tokens over all keys before them. */
import { ceilDiv } from "../common/math.ts";
import type { AdapterInfo } from "../device/device.ts";
import type { WorkgroupCount } from "../device/launch.ts";
import {
  type AttentionArgs,
  attentionParams,
  constants,
  expectRows,
  outSources,
  shapeConstants,
  tunedFor,
} from "./attentionArgs.ts";
import { choosePrefillVariant, type PrefillVariant, TILE_Q } from "./attentionVariant.ts";
import { defineKernel, type Kernel } from "./kernel.ts";
import { MATRIX_PRELUDE } from "./linearMatrixKernels.ts";

export const attentionPrefill: Kernel<AttentionArgs> = defineKernel({
  name: "attention_prefill",
  sources: (args, adapter) => {
    const { kind } = prefillVariant(args, adapter);
    if (kind === "matrix") {
      return [
        "lib/live.wgsl",
        "lib/paged_kv.wgsl",
        `lib/kv_oct_${args.kvDType}.wgsl`,
        "lib/prefill_units.wgsl",
        "lib/matrix_pairs.wgsl",
        ...outSources(args),
        "attention_prefill_matrix.wgsl",
      ];
    }
    const shared = ["lib/paged_kv.wgsl", `lib/kv_${args.kvDType}.wgsl`];
    if (kind === "rows") return [...shared, "attention_prefill_rows.wgsl"];
    return [...shared, ...outSources(args), "attention_prefill.wgsl"];
  },
  prelude: (args, adapter) => prefillPrelude(args, prefillVariant(args, adapter)),
  overrides: ({ blockSize }) => ({ BLOCK_SIZE: blockSize }),
  launch: (args, adapter) => {
    const { q, keyCache, valueCache, positions, blockTables, prefillTiles, out } = args;
    const variant = prefillVariant(args, adapter);
    if (variant.kind === "rows") expectRows(args);
    return {
      params: attentionParams(args),
      inputs: [q, keyCache, valueCache, positions, blockTables, prefillTiles],
      outputs: [out],
      workgroups: ({ numPrefillTiles }) => prefillWorkgroups(args, variant, numPrefillTiles),
    };
  },
});

function prefillVariant(args: AttentionArgs, adapter: AdapterInfo): PrefillVariant {
  return choosePrefillVariant(args.headDim, tunedFor(args, adapter));
}

function prefillWorkgroups(
  { numHeads, numKvHeads }: AttentionArgs,
  variant: PrefillVariant,
  numPrefillTiles: number,
): WorkgroupCount {
  if (variant.kind !== "matrix") return [numHeads, numPrefillTiles, 1];
  const units = numPrefillTiles * (numHeads / numKvHeads);
  return [numKvHeads, ceilDiv(units, variant.subgroups), 1];
}

function prefillPrelude(args: AttentionArgs, variant: PrefillVariant): string {
  const shape = shapeConstants(args);
  switch (variant.kind) {
    case "rows":
      return constants({ ...shape, TILE_Q });
    case "tiled":
      return constants({
        ...shape,
        TILE_Q,
        TILE_K: variant.tileK,
        ROW_GROUPS: variant.rowGroups,
        KEY_ROW_GROUPS: variant.keyRowGroups,
        LANES: variant.lanes,
      });
    case "matrix":
      return `${PRELUDE}\n${constants({
        ...shape,
        HEAD_DIM: args.headDim,
        SUBGROUPS: variant.subgroups,
      })}`;
  }
}

/** The scores' reductions are subgroup operations, too. */
const PRELUDE = `${MATRIX_PRELUDE}\ndiagnostic(off, subgroup_uniformity);`;
