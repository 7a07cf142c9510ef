import { expect } from "vitest";
import { liveRows } from "../../src/device/liveCounts.ts";
import type { LinearArgs } from "../../src/kernels/linear.ts";
import { hasMatrixKernel, linearMatrix, linearSplit } from "../../src/kernels/linearMatrix.ts";
import { f32ToF16 } from "../../models/weights/float16.ts";
import { randomF32, test } from "../support/gpu.ts";

test("workgroups that begin in phases give the same bits", async ({ device, skip }) => {
  if (!hasMatrixKernel(device.info)) skip(`${device.info.name} has no f16 subgroup matrices`);
  const [rows, inFeatures, capacity] = [400, 256, 256];
  const bits = Uint16Array.from(randomF32(rows * inFeatures, 5), f32ToF16);
  const tensor = device.upload(bits, [rows, inFeatures], "f16");
  const weight = { parts: [{ tensor, outOffset: 0 }], outFeatures: rows, inFeatures };
  const values = Uint16Array.from(randomF32(capacity * inFeatures, 6), f32ToF16);
  const x = device.upload(values, [capacity, inFeatures], "f16");
  const resultOf = async (stagger?: LinearArgs["stagger"]): Promise<Float32Array[]> => {
    const [many, parts] = [device.empty([capacity, rows]), device.empty([2 * 64, rows])];
    const phased = stagger === undefined ? {} : { stagger };
    for (const numTokens of [200, 40]) {
      await device.run((rec) => {
        const args = { weight, rows: "tokens", ...phased } as const;
        const all = { minRows: 65, maxRows: Infinity };
        linearMatrix(rec, { ...args, x, out: many }, all, "many");
        linearSplit(rec, { ...args, x: x.view([64, inFeatures]), out: parts }, 2);
      }, liveRows(numTokens));
    }
    return [await device.read(many), await device.read(parts)];
  };
  expect(await resultOf({ steps: 50, phases: 3 })).toEqual(await resultOf());
});
