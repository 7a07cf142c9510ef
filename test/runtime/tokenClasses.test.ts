import { expect, test } from "vitest";
import type { AdapterInfo } from "../../src/device/device.ts";
import { MAX_GEMV_CAPACITY } from "../../src/kernels/linearVariant.ts";
import { tokenClassesOf } from "../../src/runtime/batchLane.ts";

const limits = {
  maxComputeInvocationsPerWorkgroup: 1024,
  maxComputeWorkgroupStorageSize: 48 * 1024,
} as AdapterInfo["limits"]; // the choice reads no other limit
const tensorCores = { hasF16Matrices: true, subgroupMinSize: 32, subgroupMaxSize: 32, limits };
const lanes = { ...tensorCores, hasF16Matrices: false };

test.each([
  [lanes, 512, [1, 8, 64, 512]],
  [tensorCores, 512, [1, 4, 64, 512]],
  [lanes, 8, [1, 8]],
  [tensorCores, 8, [1, 4, 8]],
  [tensorCores, 3, [1, 3]],
  [lanes, 1, [1]],
])("token classes of %o, at most %i tokens", (adapter, most, classes) => {
  expect(tokenClassesOf(most, adapter)).toEqual(classes);
});

test("small classes are small enough for the GEMVs that norm what they read", () => {
  const [, second = 0] = tokenClassesOf(512, lanes);
  expect(second).toBeLessThanOrEqual(MAX_GEMV_CAPACITY);
});
