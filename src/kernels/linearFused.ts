/** Linear layers with the RMSNorm before them, or with the addition to the residual after them. */
import { expectShape, Tensor } from "../device/device.ts";
import type { Recorder } from "../device/recorder.ts";
import { fusedGemv, type NormedInput } from "./fusedGemv.ts";
import { PLAIN_ROWS } from "./linearGemv.ts";
import { checkLinear, linear, type LinearArgs } from "./linear.ts";

/** What a linear layer takes: activations, or a norm that it computes itself. */
export type LinearInput = Tensor | NormedInput;

/** linear's arguments with either kind of input. */
export interface LinearFromArgs extends Omit<LinearArgs, "x"> {
  readonly x: LinearInput;
}

export interface LinearOntoArgs extends Omit<LinearArgs, "activation"> {
  readonly residual: Tensor; // [capacity, outFeatures]
}

/** y = x Wᵀ + b of activations or of a norm. A norm takes at most MAX_GEMV_CAPACITY rows. */
export function linearFrom(rec: Recorder, args: LinearFromArgs): void {
  const { x, out } = args;
  if (x instanceof Tensor) {
    linear(rec, { ...args, x });
    return;
  }
  checkLinear({ ...args, x: x.residual });
  checkNorm(x);
  const { pending } = x;
  const bindings = pending === undefined ? "lib/fused_normed.wgsl" : "lib/fused_normed_sum.wgsl";
  fusedGemv(rec, {
    ...args,
    name: "norm_gemv",
    x: x.residual,
    norm: x,
    sources: [bindings, ...PLAIN_ROWS, ...normSources(x)],
    outStride: out.shape[1] ?? 0,
    inputs: normInputs(x),
    outputs: pending === undefined ? [out] : [out, pending.updated],
  });
}

/** out = residual + x Wᵀ + b, for at most MAX_GEMV_CAPACITY rows. */
export function linearOnto(rec: Recorder, args: LinearOntoArgs): void {
  checkLinear(args);
  const { residual, out } = args;
  expectShape("out", out, [out.shape[0] ?? 0, args.weight.outFeatures]);
  expectShape("residual", residual, out.shape);
  fusedGemv(rec, {
    ...args,
    name: "gemv_onto",
    sources: ["lib/fused_onto.wgsl", "lib/input_plain.wgsl", ...PLAIN_ROWS],
    outStride: args.weight.outFeatures,
    inputs: [residual],
    outputs: [out],
  });
}

/** Files that read a normed x. */
export function normSources({ pending }: NormedInput): readonly string[] {
  return pending === undefined
    ? ["lib/input_normed.wgsl", "lib/residual_whole.wgsl"]
    : ["lib/input_normed.wgsl", "lib/residual_sum.wgsl", "lib/partial_sum.wgsl"];
}

/** What a normed x binds after the bias. */
export function normInputs({ weight, pending }: NormedInput): readonly Tensor[] {
  return pending === undefined ? [weight] : [weight, pending.partials.tensor];
}

/** Throws a ShapeError unless the norm's tensors fit its residual. */
export function checkNorm({ residual, pending, weight }: NormedInput): void {
  expectShape("norm weight", weight, [residual.shape[1] ?? 0]);
  if (pending !== undefined) expectShape("updated", pending.updated, residual.shape);
}
