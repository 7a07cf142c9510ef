/** The device that GPU tests run on, random data, and comparison against an oracle. */
import { expect, test as base } from "vitest";
import type { Device } from "../../src/device/device.ts";
import { NodeOpener } from "../../src/device/openNode.ts";
import { proveInRange } from "./unchecked.ts";

const opener = new NodeOpener();
const devices = new Map<string, Promise<Device>>();

/** Substring of the adapter's name that this vitest project runs on, e.g. "llvmpipe"; the first adapter without it. */
export const testAdapter = process.env["TANDEM_TEST_ADAPTER"] ?? "";

/** The index of the adapter that this project's tests run on. */
export async function testDeviceIndex(name = testAdapter): Promise<number> {
  const infos = await opener.list();
  const index = infos.findIndex((info) => info.name.toLowerCase().includes(name.toLowerCase()));
  if (index < 0) {
    throw new Error(
      `no adapter named like "${name}"; found ${infos.map((i) => i.name).join(", ")}`,
    );
  }
  return index;
}

/** A fresh device on the adapter of this project, or on another one by name. */
export async function openTestDevice(name = testAdapter, label = "test"): Promise<Device> {
  return await opener.open({ index: await testDeviceIndex(name), label });
}

/**
 * Kernel tests repeat every launch without bounds checks (unchecked.ts). Not on lavapipe, which checks by itself
 * and takes longest to compile all kernels once more, unless TANDEM_TEST_PROOF=all asks for it.
 */
export const isProved =
  !testAdapter.includes("llvmpipe") || process.env["TANDEM_TEST_PROOF"] === "all";

/** One device a test file: opening one costs 50-100 ms, and its pipelines stay compiled. */
async function sharedDevice(): Promise<Device> {
  const known = devices.get(testAdapter);
  if (known !== undefined) return await known;
  const opened = openSharedDevice();
  devices.set(testAdapter, opened);
  return await opened;
}

async function openSharedDevice(): Promise<Device> {
  const device = await openTestDevice();
  const isKernelTest = expect.getState().testPath?.includes("/test/kernels/") === true;
  if (isKernelTest && isProved) await proveInRange(device, await testDeviceIndex());
  return device;
}

/** vitest's test with a `device` fixture. */
export const test = base.extend<{ device: Device }>({
  device: async ({}, use) => {
    const device = await sharedDevice();
    await use(device);
    device.check();
  },
});

/** Deterministic uniform values in [-1, 1). */
export function randomF32(length: number, seed: number): Float32Array<ArrayBuffer> {
  let state = (seed ^ 0x9e3779b9) >>> 0;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

export interface Tolerance {
  readonly rtol: number;
  readonly atol: number;
}

/** Fails with the index and size of the worst element unless |got - want| <= atol + rtol |want| everywhere. */
export function expectClose(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  { rtol, atol }: Tolerance,
): void {
  expect(got.length).toBe(want.length);
  let worst = 0;
  let worstIndex = -1;
  for (let i = 0; i < want.length; i++) {
    const g = got[i] ?? Number.NaN;
    const w = want[i] ?? Number.NaN;
    const excess = Math.abs(g - w) / (atol + rtol * Math.abs(w));
    if (!(excess <= 1) && !(excess <= worst)) {
      worst = Number.isNaN(excess) ? Infinity : excess;
      worstIndex = i;
    }
  }
  if (worstIndex >= 0) {
    expect.fail(
      `element ${worstIndex} of ${want.length}: got ${got[worstIndex]}, want ${want[worstIndex]} (${worst.toFixed(2)} x the tolerance)`,
    );
  }
}
