/** Kernels on tensor cores run on no software adapter, but their WGSL is checked everywhere. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { DType } from "../../src/common/dtype.ts";
import type { Tensor } from "../../src/device/device.ts";
import { tilesShape } from "../../src/kernels/activationTiles.ts";
import { attentionPrefill } from "../../src/kernels/attentionPrefill.ts";
import {
  halvesShape,
  hasMatrixKernel,
  linearMatrix,
  linearSplit,
} from "../../src/kernels/linearMatrix.ts";
import { type NullDevice, openNullDevice } from "../support/nullDevice.ts";

let device: NullDevice;

beforeAll(async () => {
  device = await openNullDevice();
});

const tensors: Tensor[] = [];

afterEach(() => {
  for (const each of tensors.splice(0)) device.free(each);
});

afterAll(async () => {
  await device.destroy();
});

/** Names of the kernels that `record` used, all of which must be right. */
async function expectCompiles(record: Parameters<NullDevice["record"]>[0]): Promise<string[]> {
  device.specs.length = 0;
  device.record(record);
  expect(await device.errors()).toEqual([]);
  return [...new Set(device.specs.map(({ label }) => label))].sort();
}

const ALL = { minRows: 1, maxRows: Infinity };
const tensor = (shape: readonly number[], dtype: DType): Tensor => {
  const made = device.empty(shape, dtype);
  tensors.push(made);
  return made;
};

test.each(["f32", "f16", "bf16"] as const)("linear layers over %s weights", async (dtype) => {
  expect(hasMatrixKernel(device.info)).toBe(true);
  const names = await expectCompiles((rec) => {
    for (const [capacity, numRows] of [
      [64, 256],
      [64, 16_384],
      [64, 24_640],
      [256, 256],
      [128, 25_600],
    ] as const) {
      const weight = {
        parts: [{ tensor: tensor([numRows, 64], dtype), outOffset: 0 }],
        outFeatures: numRows,
        inFeatures: 64,
      };
      const rows = "tokens";
      const x = tensor(halvesShape(capacity, 64), "f16");
      const kind = capacity > 64 ? "many" : "few";
      for (const activation of ["none", "swiglu"] as const) {
        const outputs = activation === "swiglu" ? numRows / 2 : numRows;
        const out = tensor(halvesShape(capacity, outputs), "f16");
        linearMatrix(rec, { x, weight, out, rows, activation }, ALL, kind);
      }
      const plain = tensor([capacity, 64], "f32");
      const out = tensor([capacity, numRows], "f32");
      linearMatrix(rec, { x: plain, weight, out, rows }, ALL, kind);
      const parts = tensor([4 * capacity, numRows], "f32");
      if (kind === "few") linearSplit(rec, { x, weight, out: parts, rows }, 4);
    }
  });
  expect(names).toEqual([
    "linear_matrix",
    "linear_matrix_few",
    "linear_matrix_stream",
    "linear_matrix_wide",
    "to_halves",
  ]);
});

test.each([64, 128])("prefill attention with heads of %i", async (headDim) => {
  await expectCompiles((rec) => {
    for (const [kvDType, out] of [
      ["f16", tensor([64, 8 * headDim], "f32")],
      ["f32", tensor([64, 8 * headDim], "f32")],
      ["f16", tensor(tilesShape(64, 8 * headDim), "f16")],
    ] as const) {
      const cache = tensor([4, 16, 2, headDim], kvDType);
      attentionPrefill(rec, {
        q: tensor([64, 8 * headDim], "f32"),
        keyCache: cache,
        valueCache: cache,
        kvDType,
        positions: tensor([64], "u32"),
        sequenceIndex: tensor([64], "u32"),
        blockTables: tensor([1, 4], "u32"),
        prefillTiles: tensor([4, 4], "u32"),
        out,
        scale: 0.1,
        slidingWindow: 0,
        numHeads: 8,
        numKvHeads: 2,
        headDim,
        blockSize: 16,
        maxSplits: 1,
      });
    }
  });
  expect(device.specs.every(({ code }) => code.includes("subgroup_matrix"))).toBe(true);
});

test("a fault is found, with the kernel's name and the line", async () => {
  device.specs.length = 0;
  device.specs.push({
    label: "faulty",
    code: "enable chromium_experimental_subgroup_matrix;\nvar<private> m: subgroup_matrix_left<u32, 8>;",
    overrides: {},
    numInputs: 0,
    numOutputs: 0,
  });
  const [error = ""] = await device.errors();
  expect(error).toMatch(/^faulty, line 2: /);
});
