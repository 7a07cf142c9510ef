/** What the attention kernels share: their arguments, params and constants. */
import { ShapeError } from "../common/errors.ts";
import { type AdapterInfo, expectDType, expectShape, type Tensor } from "../device/device.ts";
import { expectActivations, isTiled, quadSources } from "./activationTiles.ts";
import type { AttentionAdapter } from "./attentionVariant.ts";
import { f32, pack, u32 } from "./kernel.ts";

export interface AttentionArgs {
  readonly q: Tensor; // [numTokens, numHeads * headDim] f32, rotated
  readonly keyCache: Tensor; // [numBlocks, blockSize, numKvHeads, headDim], holding this step's keys
  readonly valueCache: Tensor; // as keyCache
  readonly kvDType: "f32" | "f16";
  readonly positions: Tensor; // [numTokens] u32
  readonly sequenceIndex: Tensor; // [numTokens] u32: the token's row of blockTables
  readonly blockTables: Tensor; // [maxSeqs, maxBlocksPerSequence] u32
  readonly prefillTiles: Tensor; // [maxTiles, 4] u32, from buildPrefillTiles
  /** [numTokens, numHeads * headDim] f32; or, but of the software kernels, f16 in tiles of numTokens or more */
  readonly out: Tensor;
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
  /**
   * Takes the kernels of another kind of adapter than the device's: "software", "hardware" (without
   * matrices: both run on every adapter) or "matrix" (hardware with the matrices that the device has).
   */
  readonly tuning?: "software" | "hardware" | "matrix" | undefined;
}

/** The adapter that variants are chosen for. */
export function tunedFor({ tuning }: AttentionArgs, adapter: AdapterInfo): AttentionAdapter {
  if (tuning === undefined) return adapter;
  const hasF16Matrices = tuning === "matrix" && adapter.hasF16Matrices;
  return { ...adapter, isSoftware: tuning === "software", hasF16Matrices };
}

export function shapeConstants(args: AttentionArgs): Record<string, number> {
  return { QUADS: args.headDim / 4, GROUP: args.numHeads / args.numKvHeads };
}

export function constants(values: Readonly<Record<string, number>>): string {
  return Object.entries(values)
    .map(([name, value]) => `const ${name} = ${value}u;`)
    .join("\n");
}

export function attentionParams(args: AttentionArgs): Uint8Array {
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

/** Files that write `out`. */
export function outSources({ out }: AttentionArgs): readonly string[] {
  return [...quadSources(out), "lib/attention_out.wgsl"];
}

/** Throws unless `out` is what the kernels of software adapters write. */
export function expectRows({ out }: AttentionArgs): void {
  if (isTiled(out)) throw new ShapeError("out: expected f32; these kernels write no tiles");
}

export function checkShapes(args: AttentionArgs): void {
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
  expectActivations("out", args.out, numTokens, numHeads * headDim);
  expectShape("keyCache", keyCache, [numBlocks, blockSize, numKvHeads, headDim]);
  expectShape("valueCache", valueCache, keyCache.shape);
  expectDType("keyCache", keyCache, [args.kvDType]);
  expectDType("valueCache", valueCache, [args.kvDType]);
  expectShape("positions", args.positions, [numTokens]);
  expectShape("sequenceIndex", args.sequenceIndex, [numTokens]);
  expectShape("blockTables", args.blockTables, [...args.blockTables.shape.slice(0, 2)]);
  expectShape("prefillTiles", args.prefillTiles, [args.prefillTiles.shape[0] ?? 0, 4]);
}
