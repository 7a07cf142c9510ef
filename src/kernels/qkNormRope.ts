/** RoPE on q and k, their per-head RMSNorm where the model has one, and the write into the KV cache. */
import { ShapeError } from "../common/errors.ts";
import { expectDType, expectShape, type Tensor } from "../device/device.ts";
import { defineKernel, f32, type Kernel, pack, spread, u32, workgroupSize } from "./kernel.ts";

export interface QkNormRopeArgs {
  /** One tensor, or several to be summed: [partials * numTokens, (numHeads + 2 * numKvHeads) * headDim] f32 */
  readonly qkv: Tensor;
  readonly positions: Tensor; // [numTokens] u32, below ropeTable's rows
  readonly slotMapping: Tensor; // [numTokens] u32: block * blockSize + offset
  readonly ropeTable: Tensor; // [maxPositions, headDim] f32, from ropeTable() in rope.ts
  /** RMSNorm weights of each head of q and of k (Qwen3); both or neither. */
  readonly qNorm?: Tensor | undefined; // [headDim]
  readonly kNorm?: Tensor | undefined; // [headDim]
  readonly eps: number; // of the norms
  readonly q: Tensor; // out [numTokens, numHeads * headDim] f32
  readonly keyCache: Tensor; // out [numBlocks, blockSize, numKvHeads, headDim] f32 or f16
  readonly valueCache: Tensor; // out, as keyCache
  readonly kvDType: "f32" | "f16";
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number; // a multiple of 8
}

/** Records one launch over the live tokens. */
export const qkNormRope: Kernel<QkNormRopeArgs> = defineKernel({
  name: ({ qNorm }) => (qNorm === undefined ? "rope" : "qk_norm_rope"),
  sources: ({ qNorm, kvDType }) => [
    "lib/live.wgsl",
    kvDType === "f16" ? "lib/kv_f16.wgsl" : "lib/kv_f32.wgsl",
    "qk_norm_rope.wgsl",
    qNorm === undefined ? "lib/qk_plain.wgsl" : "lib/qk_normed.wgsl",
  ],
  prelude: ({ headDim }) => `const QUADS = ${headDim / 4}u;`,
  overrides: (_args, adapter) => ({ WG_SIZE: workgroupSize(adapter, 64) }),
  launch: (args, adapter) => {
    checkShapes(args);
    const { qkv, positions, slotMapping, ropeTable, qNorm, kNorm, eps } = args;
    const { numHeads, numKvHeads, headDim } = args;
    const [numTokens = 0] = args.q.shape;
    const [numRows = 0, columns = 0] = qkv.shape;
    const norms = qNorm === undefined || kNorm === undefined ? [] : [qNorm, kNorm];
    const lanesPerToken = (numHeads + 2 * numKvHeads) * (headDim / 8);
    const size = workgroupSize(adapter, 64);
    return {
      params: pack(
        u32(numHeads),
        u32(numKvHeads),
        f32(eps),
        u32(numRows / numTokens),
        u32((numTokens * columns) / 4),
      ),
      inputs: [qkv, positions, slotMapping, ropeTable, ...norms],
      outputs: [args.q, args.keyCache, args.valueCache],
      workgroups: (live) => spread(Math.ceil((live.numTokens * lanesPerToken) / size), adapter),
    };
  },
});

function checkShapes(args: QkNormRopeArgs): void {
  checkHeads(args);
  const [numTokens = 0] = args.q.shape;
  const partials = Math.max(1, Math.floor((args.qkv.shape[0] ?? 0) / numTokens));
  const columns = (args.numHeads + 2 * args.numKvHeads) * args.headDim;
  expectShape("qkv", args.qkv, [partials * numTokens, columns]);
}

/** Throws a ShapeError that names what does not fit, of all but qkv. */
export function checkHeads(args: Omit<QkNormRopeArgs, "qkv">): void {
  const { q, ropeTable, qNorm, kNorm, keyCache, kvDType } = args;
  const { numHeads, numKvHeads, headDim } = args;
  if (headDim % 8 !== 0) {
    throw new ShapeError(`headDim: expected a multiple of 8, got ${headDim}`);
  }
  if ((qNorm === undefined) !== (kNorm === undefined)) {
    throw new ShapeError("qNorm and kNorm: expected both or neither");
  }
  const [numTokens = 0] = q.shape;
  const [numBlocks = 0, blockSize = 0] = keyCache.shape;
  expectShape("positions", args.positions, [numTokens]);
  expectShape("slotMapping", args.slotMapping, [numTokens]);
  expectShape("ropeTable", ropeTable, [ropeTable.shape[0] ?? 0, headDim]);
  expectShape("q", q, [numTokens, numHeads * headDim]);
  expectShape("keyCache", keyCache, [numBlocks, blockSize, numKvHeads, headDim]);
  expectShape("valueCache", args.valueCache, keyCache.shape);
  expectDType("keyCache", keyCache, [kvDType]);
  expectDType("valueCache", args.valueCache, [kvDType]);
  if (qNorm !== undefined) expectShape("qNorm", qNorm, [headDim]);
  if (kNorm !== undefined) expectShape("kNorm", kNorm, [headDim]);
}
