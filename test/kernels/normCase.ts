/** Inputs of kernels that norm the residual as they read it. */
import type { Device } from "../../src/device/device.ts";
import type { NormedInput } from "../../src/kernels/fusedGemv.ts";
import { rmsNormOracle } from "../oracles/rmsNorm.ts";
import { randomF32 } from "../support/gpu.ts";
import { type Guarded, guarded } from "../support/guarded.ts";

export interface NormCase {
  readonly numTokens: number;
  readonly spareRows: number;
  readonly numChunks: number; // hidden / 8
  readonly numPartials: number; // 0: nothing is pending
  readonly seed: number;
}

export interface MadeNorm {
  readonly x: NormedInput;
  readonly updated: Guarded | undefined;
  /** residual + partials, in f32 and rank order: [numTokens, hidden] */
  readonly sum: Float32Array;
  readonly normed: Float64Array; // [numTokens, hidden]
}

export function makeNorm(device: Device, c: NormCase, eps: number): MadeNorm {
  const hidden = 8 * c.numChunks;
  const shape = [c.numTokens + c.spareRows, hidden];
  const size = c.numTokens * hidden;
  const before = randomF32(size, c.seed + 11);
  const weights = randomF32(hidden, c.seed + 12);
  const strideElements = (c.numTokens + c.spareRows) * hidden + 4;
  const packed = new Float32Array(strideElements * c.numPartials).fill(Number.NaN);
  const partials = Array.from({ length: c.numPartials }, (_, p) =>
    randomF32(size, c.seed + 13 + p),
  );
  partials.forEach((partial, p) => {
    packed.set(partial, p * strideElements);
  });
  const sum = before.map((value, i) => {
    const added = partials.reduce((total, partial) => Math.fround(total + (partial[i] ?? 0)), 0);
    return value + added;
  });
  const residual = guarded(device, shape).tensor; // rows past the live ones are not zeros
  device.write(residual, new Uint8Array(before.buffer));
  const updated = c.numPartials === 0 ? undefined : guarded(device, shape);
  const pending = updated && {
    partials: {
      tensor: device.upload(packed, [packed.length]),
      count: c.numPartials,
      strideElements,
    },
    updated: updated.tensor,
  };
  const weight = device.upload(weights, [hidden]);
  return {
    x: { residual, weight, eps, pending },
    updated,
    sum,
    normed: rmsNormOracle(sum, weights, eps),
  };
}
