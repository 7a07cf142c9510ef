/** q, k and v of a step: projected, rotated, k and v written to the KV cache. */
import { ShapeError } from "../common/errors.ts";
import { type AdapterInfo, expectShape, Tensor } from "../device/device.ts";
import type { Recorder } from "../device/recorder.ts";
import { isTiled } from "./activationTiles.ts";
import { fusedGemv, type NormedInput } from "./fusedGemv.ts";
import { checkWeight, type LinearArgs } from "./linear.ts";
import { linearSplit, splitsOf } from "./linearMatrix.ts";
import { checkNorm, linearFrom, type LinearInput, normInputs, normSources } from "./linearFused.ts";
import { checkHeads, qkNormRope, type QkNormRopeArgs } from "./qkNormRope.ts";

export interface QkvRopeArgs extends Omit<QkNormRopeArgs, "qkv"> {
  readonly x: LinearInput; // [capacity, hidden]
  /** q rows, then k, then v: [(numHeads + 2 * numKvHeads) * headDim, hidden] */
  readonly weight: LinearArgs["weight"];
  readonly bias?: Tensor | undefined; // [rows of the weight]
  /** As linear's. */
  readonly choices?: LinearArgs["choices"];
}

interface FusedArgs extends QkvRopeArgs {
  readonly x: NormedInput;
}

/** One launch where x is a norm and q and k have none; else a linear layer and qkNormRope. */
export function qkvRope(rec: Recorder, args: QkvRopeArgs): void {
  const { x, weight, q, numHeads, numKvHeads, headDim } = args;
  const numRows = (numHeads + 2 * numKvHeads) * headDim;
  if (weight.outFeatures !== numRows) {
    throw new ShapeError(`weight: expected ${numRows} rows, got ${weight.outFeatures}`);
  }
  if (isFusable(args, rec.device.info)) {
    fusedRope(rec, args);
    return;
  }
  const capacity = q.shape[0] ?? 0;
  const hasBias = args.bias !== undefined;
  const isHalves = x instanceof Tensor && isTiled(x);
  const splits = isHalves ? splitsOf(rec.device.info, { weight, capacity, hasBias }) : 1;
  const qkv = rec.alloc("qkv", [splits * capacity, numRows]);
  if (isHalves && splits > 1) linearSplit(rec, { x, weight, out: qkv, rows: "tokens" }, splits);
  else linearFrom(rec, { x, weight, out: qkv, rows: "tokens", ...optional(args) });
  qkNormRope(rec, { ...args, qkv });
}

/** Storage buffers of the fused launch: 10, with partials 12. Browsers allow 8 to 16. */
function isFusable(args: QkvRopeArgs, { limits }: AdapterInfo): args is FusedArgs {
  const { x, qNorm, kNorm, weight } = args;
  if (x instanceof Tensor || qNorm !== undefined || kNorm !== undefined) return false;
  const numBuffers = x.pending === undefined ? 10 : 12;
  return weight.parts.length === 1 && numBuffers <= limits.maxStorageBuffersPerShaderStage;
}

function fusedRope(rec: Recorder, args: FusedArgs): void {
  const { x, weight, q, keyCache, valueCache, kvDType } = args;
  const { positions, slotMapping, ropeTable, numHeads, numKvHeads, headDim } = args;
  checkNorm(x);
  checkHeads(args);
  const { residual, pending } = x;
  const rows = "tokens";
  expectShape("residual", residual, [q.shape[0] ?? 0, weight.inFeatures]);
  checkWeight({ weight, rows, ...optional(args) });
  const bindings = pending === undefined ? "lib/fused_rope.wgsl" : "lib/fused_rope_sum.wgsl";
  const outputs = [q, keyCache, valueCache];
  fusedGemv(rec, {
    name: "norm_qkv_rope",
    x: residual,
    weight,
    rows,
    ...optional(args),
    norm: x,
    sources: [bindings, "lib/rows_rope.wgsl", `lib/kv_pair_${kvDType}.wgsl`, ...normSources(x)],
    prelude: `const HEAD_DIM = ${headDim}u;`,
    outStride: weight.outFeatures,
    numHeads,
    numKvHeads,
    inputs: [...normInputs(x), positions, slotMapping, ropeTable],
    outputs: pending === undefined ? outputs : [...outputs, pending.updated],
  });
}

function optional({ bias, choices }: QkvRopeArgs): Pick<LinearArgs, "bias" | "choices"> {
  return { ...(bias === undefined ? {} : { bias }), ...(choices === undefined ? {} : { choices }) };
}
