import { expect, test } from "vitest";
import type { Device } from "../../src/device/device.ts";
import { probeFreeBytes } from "../../src/device/memoryProbe.ts";

const GIB = 2 ** 30;

interface FakeDevice {
  readonly device: Pick<Device, "gpu" | "info">;
  /** Bytes held now, and at most so far. */
  readonly held: { now: number; most: number };
}

/** A device with so much memory, which fails as WebGPU does: by the error scope. */
function deviceOf(totalBytes: number, maxBufferSize: number): FakeDevice {
  const held = { now: 0, most: 0 };
  let isOut = false;
  const createBuffer = ({ size }: { size: number }): object => {
    isOut = held.now + size > totalBytes;
    if (!isOut) held.now += size;
    held.most = Math.max(held.most, held.now);
    const taken = isOut ? 0 : size;
    return { destroy: (): unknown => (held.now -= taken) };
  };
  const gpu = {
    pushErrorScope: (): void => undefined,
    popErrorScope: () => Promise.resolve(isOut ? { message: "out of memory" } : null),
    createBuffer,
    queue: { submit: (): void => undefined, onSubmittedWorkDone: () => Promise.resolve() },
  };
  return { device: { gpu, info: { limits: { maxBufferSize } } } as never, held };
}

test("finds what is free to 64 MiB and gives all of it back", async () => {
  const { device, held } = deviceOf(5.3 * GIB, 4 * GIB);
  const found = await probeFreeBytes(device, Infinity);
  expect(found).toBeGreaterThan(5.3 * GIB - 2 ** 26);
  expect(found).toBeLessThanOrEqual(5.3 * GIB);
  expect(held.now).toBe(0);
});

test("stops where there is enough, and keeps to the adapter's largest buffer", async () => {
  const { device, held } = deviceOf(100 * GIB, GIB / 2);
  expect(await probeFreeBytes(device, 3 * GIB)).toBe(3 * GIB);
  expect(held).toEqual({ now: 0, most: 3 * GIB });
  expect(await probeFreeBytes(deviceOf(0, GIB).device, GIB)).toBe(0);
});
