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
  type AttentionAdapter,
  chooseDecodeVariant,
  choosePrefillVariant,
  type DecodeVariant,
  partialRows,
  TILE_Q,
} from "./attentionVariant.ts";
import { defineKernel, f32, type Kernel, pack, spread, u32, workgroupSize } from "./kernel.ts";

export { buildPrefillTiles, chooseSplits, TILE_Q } from "./attentionVariant.ts";

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
  /** Takes the kernels of another kind of adapter than the device's: every kernel runs on every adapter. */
  readonly tuning?: "software" | "hardware" | undefined;
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
  sources: (args, adapter) => {
    const { kind, headsPerWorkgroup } = decodeVariant(args, adapter);
    const common = ["lib/live.wgsl", "lib/paged_kv.wgsl"];
    if (kind === "wide") return [...common, `lib/kv_${args.kvDType}.wgsl`, "attention_decode.wgsl"];
    const heads = headsPerWorkgroup === 1 ? "lib/heads_one.wgsl" : "lib/heads_many.wgsl";
    const words = `lib/kv_word_${args.kvDType}.wgsl`;
    return [...common, heads, words, "attention_decode_narrow.wgsl"];
  },
  prelude: (args, adapter) => {
    const { kind, headsPerWorkgroup, headTiles, lanes, chunk } = decodeVariant(args, adapter);
    const isVector = kind === "narrow" && headsPerWorkgroup > 1;
    const heads = isVector ? `alias Heads = vec${headsPerWorkgroup}f;\n` : "";
    const sizes = constants({
      ...shapeConstants(args),
      HEADS: headsPerWorkgroup,
      TILES: headTiles,
      LANES: lanes,
      CHUNK: chunk,
    });
    return heads + sizes;
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
  sources: (args, adapter) => {
    const { kind } = choosePrefillVariant(args.headDim, tunedFor(args, adapter));
    const file = kind === "rows" ? "attention_prefill_rows.wgsl" : "attention_prefill.wgsl";
    return ["lib/paged_kv.wgsl", `lib/kv_${args.kvDType}.wgsl`, file];
  },
  prelude: (args, adapter) => {
    const variant = choosePrefillVariant(args.headDim, tunedFor(args, adapter));
    const shape = { ...shapeConstants(args), TILE_Q };
    if (variant.kind === "rows") return constants(shape);
    const { tileK, rowGroups, keyRowGroups, lanes } = variant;
    return constants({
      ...shape,
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

function tunedFor({ tuning }: AttentionArgs, adapter: AdapterInfo): AttentionAdapter {
  return tuning === undefined ? adapter : { ...adapter, isSoftware: tuning === "software" };
}

function decodeVariant(args: AttentionArgs, adapter: AdapterInfo): DecodeVariant {
  const group = args.numHeads / args.numKvHeads;
  return chooseDecodeVariant(args.headDim, group, tunedFor(args, adapter));
}

function shapeConstants(args: AttentionArgs): Record<string, number> {
  return { QUADS: args.headDim / 4, GROUP: args.numHeads / args.numKvHeads };
}

function constants(values: Readonly<Record<string, number>>): string {
  return Object.entries(values)
    .map(([name, value]) => `const ${name} = ${value}u;`)
    .join("\n");
}

function attentionParams(args: AttentionArgs): Uint8Array {
  const [, maxBlocks = 0] = args.blockTables.shape;
  const { numHeads, numKvHeads, slidingWindow, scale } = args;
  return pack(
    u32(numHeads),
    u32(numKvHeads),
    u32(maxBlocks),
    u32(slidingWindow),
    f32(scale),
    u32(args.headDim / 4),
  );
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
