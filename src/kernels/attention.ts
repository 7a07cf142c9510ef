/**
 * Attention over the paged KV cache, grouped-query and causal, with an optional sliding window.
 * Three launches: split-K decode for the leading one-token rows, the merge of its splits (skipped
 * where there is one), and tiles for the rows of prefill.
 */
import { ShapeError } from "../common/errors.ts";
import { ceilDiv } from "../common/math.ts";
import { type AdapterInfo, expectDType, expectShape, type Tensor } from "../device/device.ts";
import type { Recorder } from "../device/recorder.ts";
import {
  chooseDecodeVariant,
  choosePrefillVariant,
  partialRows,
  TILE_Q,
} from "./attentionVariant.ts";
import { defineKernel, f32, type Kernel, pack, spread, u32, workgroupSize } from "./kernel.ts";

export interface AttentionArgs {
  readonly q: Tensor; // [numTokens, numHeads * headDim] f32, rotated
  readonly keyCache: Tensor; // [numBlocks, blockSize, numKvHeads, headDim], holding this step's keys
  readonly valueCache: Tensor; // as keyCache
  readonly kvDType: "f32" | "f16";
  readonly positions: Tensor; // [numTokens] u32
  readonly sequenceIndex: Tensor; // [numTokens] u32: the token's row of blockTables
  readonly blockTables: Tensor; // [maxSeqs, maxBlocksPerSequence] u32
  readonly prefillTiles: Tensor; // [maxTiles, 4] u32, from buildPrefillTiles
  readonly out: Tensor; // [numTokens, numHeads * headDim] f32
  readonly scale: number; // of the scores, 1 / sqrt(headDim) as a rule
  /** Key j is visible to query i iff j <= i and i - j < slidingWindow; 0 for no window. */
  readonly slidingWindow: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly blockSize: number;
  /** Most splits that a step may ask for; sizes the scratch. */
  readonly maxSplits: number;
  /** Most decode tokens of a step; by default every row may be one. */
  readonly maxDecodeTokens?: number | undefined;
}

interface PartialsArgs extends AttentionArgs {
  readonly partials: Tensor; // [partialRows, numHeads, headDim + 4] f32
}

/** Records the three launches. */
export function attention(rec: Recorder, args: AttentionArgs): void {
  checkShapes(args);
  const { q, numHeads, headDim, maxSplits, maxDecodeTokens } = args;
  const capacity = Math.min(q.shape[0] ?? 0, maxDecodeTokens ?? Infinity);
  const rows = maxSplits === 1 ? 1 : partialRows(capacity, maxSplits); // one split writes `out`
  if (capacity > 0) {
    const partials = rec.alloc("attention partials", [rows, numHeads, headDim + 4]);
    attentionDecode(rec, { ...args, partials });
    if (maxSplits > 1) attentionMerge(rec, { ...args, partials });
  }
  attentionPrefill(rec, args);
}

const attentionDecode: Kernel<PartialsArgs> = defineKernel({
  name: "attention_decode",
  sources: (args) => [
    "lib/live.wgsl",
    kvSource(args),
    "lib/paged_kv.wgsl",
    "attention_decode.wgsl",
  ],
  prelude: (args, adapter) => {
    const { headsPerWorkgroup, headTiles, parts, lanes, chunk } = decodeVariant(args, adapter);
    return constants({
      QUADS: args.headDim / 4,
      GROUP: args.numHeads / args.numKvHeads,
      HEADS: headsPerWorkgroup,
      TILES: headTiles,
      PARTS: parts,
      LANES: lanes,
      CHUNK: chunk,
    });
  },
  overrides: ({ blockSize }) => ({ BLOCK_SIZE: blockSize }),
  launch: (args, adapter) => {
    const { q, keyCache, valueCache, positions, sequenceIndex, blockTables } = args;
    const numGroups = args.numKvHeads * decodeVariant(args, adapter).headTiles;
    const [rows = 0] = args.partials.shape;
    return {
      params: attentionParams(args),
      inputs: [q, keyCache, valueCache, positions, sequenceIndex, blockTables],
      outputs: [args.partials, args.out],
      workgroups: ({ numDecodeTokens, numSplits }) => {
        if (numSplits > 1 && numDecodeTokens * numSplits > rows) {
          throw new ShapeError(
            `attention: ${numDecodeTokens} decode tokens of ${numSplits} splits take ${numDecodeTokens * numSplits} partials; expected at most ${rows}, as chooseSplits gives`,
          );
        }
        return [numSplits, numGroups, numDecodeTokens];
      },
    };
  },
});

const attentionMerge: Kernel<PartialsArgs> = defineKernel({
  name: "attention_merge",
  sources: ["lib/live.wgsl", "attention_merge.wgsl"],
  prelude: ({ headDim }) => constants({ QUADS: headDim / 4 }),
  overrides: (_args, adapter) => ({ WG_SIZE: workgroupSize(adapter, 64) }),
  launch: ({ numHeads, headDim, partials, out }, adapter) => ({
    params: pack(u32(numHeads)),
    inputs: [partials],
    outputs: [out],
    workgroups: ({ numDecodeTokens, numSplits }) => {
      if (numSplits === 1) return [0, 1, 1];
      const lanes = numDecodeTokens * numHeads * (headDim / 4);
      return spread(ceilDiv(lanes, workgroupSize(adapter, 64)), adapter);
    },
  }),
});

const attentionPrefill: Kernel<AttentionArgs> = defineKernel({
  name: "attention_prefill",
  sources: (args, adapter) => [
    kvSource(args),
    "lib/paged_kv.wgsl",
    choosePrefillVariant(args.headDim, adapter).isStaged
      ? "lib/kv_tile_staged.wgsl"
      : "lib/kv_tile_direct.wgsl",
    "attention_prefill.wgsl",
  ],
  prelude: ({ headDim, numHeads, numKvHeads }, adapter) => {
    const { tileK, rowGroups, keyRowGroups, lanes } = choosePrefillVariant(headDim, adapter);
    return constants({
      QUADS: headDim / 4,
      GROUP: numHeads / numKvHeads,
      TILE_Q,
      TILE_K: tileK,
      ROW_GROUPS: rowGroups,
      KEY_ROW_GROUPS: keyRowGroups,
      LANES: lanes,
    });
  },
  overrides: ({ blockSize }) => ({ BLOCK_SIZE: blockSize }),
  launch: (args) => {
    const { q, keyCache, valueCache, positions, blockTables, prefillTiles, out } = args;
    return {
      params: attentionParams(args),
      inputs: [q, keyCache, valueCache, positions, blockTables, prefillTiles],
      outputs: [out],
      workgroups: ({ numPrefillTiles }) => [args.numHeads, numPrefillTiles, 1],
    };
  },
});

function decodeVariant(
  { headDim, numHeads, numKvHeads }: AttentionArgs,
  adapter: AdapterInfo,
): ReturnType<typeof chooseDecodeVariant> {
  return chooseDecodeVariant(headDim, numHeads / numKvHeads, adapter);
}

function kvSource({ kvDType }: AttentionArgs): string {
  return kvDType === "f16" ? "lib/kv_f16.wgsl" : "lib/kv_f32.wgsl";
}

function constants(values: Readonly<Record<string, number>>): string {
  return Object.entries(values)
    .map(([name, value]) => `const ${name} = ${value}u;`)
    .join("\n");
}

function attentionParams(args: AttentionArgs): Uint8Array {
  const [, maxBlocks = 0] = args.blockTables.shape;
  const { numHeads, numKvHeads, slidingWindow, scale } = args;
  return pack(u32(numHeads), u32(numKvHeads), u32(maxBlocks), u32(slidingWindow), f32(scale));
}

function checkShapes(args: AttentionArgs): void {
  const { q, keyCache, valueCache, numHeads, numKvHeads, headDim, blockSize } = args;
  if (headDim % 8 !== 0 || headDim < 8 || headDim > 256) {
    throw new ShapeError(`headDim: expected a multiple of 8 up to 256, got ${headDim}`);
  }
  if (numHeads % numKvHeads !== 0) {
    throw new ShapeError(
      `numHeads: expected a multiple of numKvHeads (${numKvHeads}), got ${numHeads}`,
    );
  }
  const [numTokens = 0] = q.shape;
  const [numBlocks = 0] = keyCache.shape;
  expectShape("q", q, [numTokens, numHeads * headDim]);
  expectShape("out", args.out, q.shape);
  expectShape("keyCache", keyCache, [numBlocks, blockSize, numKvHeads, headDim]);
  expectShape("valueCache", valueCache, keyCache.shape);
  expectDType("keyCache", keyCache, [args.kvDType]);
  expectDType("valueCache", valueCache, [args.kvDType]);
  expectShape("positions", args.positions, [numTokens]);
  expectShape("sequenceIndex", args.sequenceIndex, [numTokens]);
  expectShape("blockTables", args.blockTables, [...args.blockTables.shape.slice(0, 2)]);
  expectShape("prefillTiles", args.prefillTiles, [args.prefillTiles.shape[0] ?? 0, 4]);
}
